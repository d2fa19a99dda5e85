"""Which addresses can be asked, and which of them are this machine."""

import pytest

from pipeline.config.base_urls import checked_address, is_loopback, normalise_base_url, origin


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:99999", "the port is not a number from 1 to 65535"),
        ("http://127.0.0.1:abc", "the port is not a number from 1 to 65535"),
        ("http://127.0.0.1:0", "the port is not a number from 1 to 65535"),
        ("http://a..b", "'a..b' is not the name of a host"),
        (f"http://{'a' * 64}.example", "is not the name of a host"),
        ("http://a b", "no blanks"),
        ("http://a\x1b[31m", "no control characters"),
        ("http://a%41.example", "is not the name of a host"),
        ("http://2130706433", "is not an IP address"),
        ("http://0x7f000001", "is not an IP address"),
        ("http://127.1", "is not an IP address"),
        ("http://127.0.0.256", "is not an IP address"),
        ("http://[::1", "no IPv6 address"),
        ("http://[1::2::3]", "IPv6 address"),
        ("http://\ud800.example", "not valid Unicode"),
        ("http://", "not an http(s) address"),
        ("https://data:[::1]:9", "address"),
        ("file:///etc/passwd", "not an http(s) address"),
    ],
)
def test_what_is_no_address(address: str, said: str) -> None:
    """Each says which part is wrong, instead of failing later in a library."""
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        checked_address(address)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000/v1", "http://[::1]:8000", "https://api.example.com.", "https://my_host:8443/x?y=z",
        "https://bücher.example", "http://localhost", "https://1.2.3.4", "https://3com.example",
    ],
)  # fmt: skip
def test_what_is_one(address: str) -> None:
    """Ports, paths, IPv6, names with digits, underscores and other alphabets."""
    assert checked_address(address).hostname


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.0.0.1:1", True), ("http://127.8.9.1", True), ("http://localhost.", True), ("http://[::1]", True),
        ("http://x.localhost", True), ("http://127.evil.example", False), ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False), ("http://0.0.0.0", False), ("http://[::1", False), ("x", False),
    ],
)  # fmt: skip
def test_this_machine(address: str, here: bool) -> None:  # noqa: FBT001 - a case
    """Only what cannot be another machine: a name that merely begins with 127 is none of it."""
    assert is_loopback(address) is here


def test_a_name_like_loopback_is_asked_over_tls() -> None:
    """`127.evil.example` without a scheme is no server on this machine, so nothing goes there in clear."""
    assert normalise_base_url("127.evil.example") == "https://127.evil.example/v1"
    assert normalise_base_url(" 127.0.0.1:8000 ") == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize("user", ["me@", "me:secret@", "@", ":@"])
def test_an_address_holds_no_login(user: str) -> None:
    """Not even an empty one: libraries refuse it beside the header that holds the key."""
    with pytest.raises(ValueError, match="an address does not hold a key"):
        normalise_base_url(f"http://{user}127.0.0.1:8000")


def test_the_origin_holds_no_login() -> None:
    """Scheme, host and port; no user, path or query."""
    assert origin("https://me:secret@api.example:8443/v1?key=x") == "https://api.example:8443"
