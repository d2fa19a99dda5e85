"""Addresses as they are stored and shown: without what opens them, and otherwise as they were written."""

from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.redaction.addresses import public_text, public_url, secrets_in

SECRET = "hunter2+=/Zq9"  # noqa: S105 - made up
NAMES = [
    "api_key",
    "api-key",
    "apikey",
    "apiKey",
    "X-Api-Key",
    "key",
    "code",
    "auth",
    "auth_key",
    "Authorization",
    "password",
    "passwd",
    "pwd",
    "pass",
    "passphrase",
    "token",
    "access_token",
    "accessToken",
    "id_token",
    "jwt",
    "bearer",
    "secret",
    "client_secret",
    "subscription-key",
    "x-functions-key",
    "sig",
    "sign",
    "signature",
    "Signature",
    "hmac",
    "session_id",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Goog-Signature",
    "GoogleAccessId",
    "AWSAccessKeyId",
    "Policy",
    "Key-Pair-Id",
    "q-signature",
    "OSSAccessKeyId",
    "hdnts",
    "auth[key]",
    "%74oken",
    "api%5Fkey",
    "user_token",
]
PLACES = (
    "https://h.example/a.jpg?{pair}",
    "https://h.example/a.jpg?w=640&{pair}&page=2",
    "https://h.example/a.jpg?w=640;{pair}",
    "https://h.example/a.jpg?w=640&amp;{pair}",
    "https://h.example/a.jpg#{pair}",
    "https://h.example/a.jpg?w=640#/viewer?{pair}",
    "https://h.example/a.jpg;{pair}?w=640",
    "https://proxy.example/?url={nested}&w=640",
    "https://proxy.example/resize#{pair}&x=1",
    "s3://bucket/a.jpg?{pair}",
)


def test_no_secret_is_left() -> None:
    """No parameter that opens or signs an address is left in it, wherever it stands and however its name is written."""
    cases = 0
    for name, place, value in product(NAMES, PLACES, (quote(SECRET, safe=""), SECRET.replace("/", ""))):
        nested = quote(f"https://h.example/a.jpg?{name}={value}&w=1", safe="")
        url = place.format(pair=f"{name}={value}", nested=nested)
        shown = public_url(url)
        assert not {"hunter2", "Zq9"} & {part for part in ("hunter2", "Zq9") if part in shown}, (url, shown)
        assert public_url(shown) == shown
        assert "h.example" in shown or "bucket" in shown or "proxy.example" in shown
        cases += 1
    assert cases == len(NAMES) * len(PLACES) * 2 == 920


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hunter2@h/a.jpg", "https://h/a.jpg"),
        ("https://hunter2@h/a.jpg", "https://h/a.jpg"),
        ("https://me:hunt/er2@h/a.jpg", "https://h/a.jpg"),
        ("https://me:hunt@er2@h/a.jpg", "https://h/a.jpg"),
        ("me:hunter2@proxy:3128", "proxy:3128"),
        ("//me:hunter2@h/a.jpg", "//h/a.jpg"),
        ("https://cdn/https://me:hunter2@h/a.jpg", "https://cdn/https://h/a.jpg"),
        ("https://h/a.jpg?sig=hunter2&se=2026&sp=r&id=3", "https://h/a.jpg?id=3"),
    ],
)
def test_logins_and_signatures_are_left_out(url: str, shown: str) -> None:
    """A login is left out, also where its password makes the address unreadable; so are all parts of a signature."""
    assert public_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://h/a.jpg", "https://h/a.jpg?", "https://h/a.jpg#", "https://h/a.jpg?w=640&h=480#top", "https://h/@me/a.jpg",
        "https://h:8080/@me/a.jpg", "https://h/get?key=photos/1.jpg", "https://h/get?code=red%20car.PNG", "https://h/?id=7",
        "https://h/?page=2&author=x&passage=3&signal=4&design=5", "https://h/?monkey=1&zipcode=2&country_code=3&barcode=4",
        "https://h/?max_tokens=5&object_key=6&sort-key=7&cache_key=8", "https://h/a.jpg?v=1;2", "https://h/?se=1&sp=2",
        "https://h/?u=https%3A%2F%2Fother%2Fa.jpg%3Fw%3D1", "https://h/%E2%82%AC.jpg?q=%20+&&=", "a/b.jpg?w=1", "",
    ],
)  # fmt: skip
def test_what_distinguishes_images_stays(url: str) -> None:
    """An address without secrets is returned as it was written: it is the id under which its answer was paid for."""
    assert public_url(url) == url
    assert public_text(f"see {url} and go") == f"see {url} and go"


@given(st.text())
def test_any_text_can_be_asked(text: str) -> None:
    """No text raises, and nothing is left out a second time."""
    once = public_url(text)
    assert public_url(once) == public_url(public_url(once))
    public_text(text)
    list(secrets_in(text))


def test_addresses_within_text() -> None:
    """Addresses in a message or in JSON are cleaned where they stand."""
    text = '{"a":"https://u:hunter2@h/x?token=hunter2&w=1","b":"no address","c":["http://h/?code=hunter2"]}'
    assert public_text(text) == '{"a":"https://h/x?w=1","b":"no address","c":["http://h/"]}'


def test_what_is_left_out_is_known() -> None:
    """What an address hides can be masked elsewhere: login, its halves, values as written and unquoted."""
    url = "http://me:pa%20ss@h/v1?api_key=a%2Bb&w=1#token=frag"
    assert {"me:pa ss", "pa%20ss", "pa ss", "me", "a%2Bb", "a+b", "frag"} <= set(secrets_in(url))
    assert "1" not in set(secrets_in(url))
