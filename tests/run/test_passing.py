"""Addresses that are passed on for the provider to fetch: which ones, their sizes, bills and rows, and what is not."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import pipeline
from pipeline.errors import BudgetReachedError, InputError
from pipeline.http.public import host_to_pass, is_public_host
from pipeline.run import passing
from tests.builders import ask
from tests.emulators import emulator
from tests.image_hosts import HERE, image_host
from tests.support import Command, MakeImage, emulator_get

PRICES = {**HERE, "prices.models": [{"model": "gpt-4o", "input_usd_per_mtok": 2.5, "output_usd_per_mtok": 1}]}


def picture(width: int, height: int, kind: str = "JPEG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (width % 256, 99, 7)).save(buffer, kind, **more)
    return buffer.getvalue()


@pytest.fixture
def public_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of this machine count as anybody's."""

    async def is_public(_: str) -> bool:
        return True

    monkeypatch.setattr(passing, "is_public_host", is_public)


def listed(*addresses: str) -> str:
    Path("list.csv").write_text("image\n" + "\n".join(addresses) + "\n")
    return "list.csv"


@pytest.mark.usefixtures("public_loopback")
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_addresses_are_passed_on(make_image: MakeImage, api: str) -> None:
    """No bytes are fetched here; sizes, predictions and bills agree; local files go as bytes; a resume asks nothing."""
    local = make_image("photos/local.jpg", 300, 200)
    files: dict[str, bytes | int] = {"/a.jpg": picture(1600, 900), "/b.png": picture(640, 480, "PNG")}
    with image_host(files) as (url, whole), emulator(["--fetch-urls"]) as endpoint:
        source = listed(f"{url}/a.jpg?X-Amz-Signature=s3cr3t", f"{url}/b.png", f"{url}/b.png#again", str(local))
        more: dict[str, Any] = {"pass_urls": True, "max_cost": 1, "api": api, "detail": "high", "overrides": PRICES}
        assert ask(source, endpoint, **more).exit_code == 0
        bodies = [one["body"] for one in emulator_get(endpoint, "requests?last=9")]
        fetched_by_provider = list(whole)
        again = ask(source, endpoint, **more)
        assert (again.requests, again.exit_code) == (0, 0)
    sent = json.dumps(bodies)
    assert (sent.count(f'"{url}/'), sent.count("data:image/jpeg;base64"), len(bodies)) == (3, 1, 4)
    assert f"{url}/a.jpg?X-Amz-Signature=s3cr3t" in sent  # the provider needs it
    assert sorted(path.partition("?")[0] for path in fetched_by_provider) == ["/a.jpg", "/b.png", "/b.png"]
    rows = pipeline.read("out").set_index("image")
    assert (rows.prompt_tokens == rows.predicted_prompt_tokens).all()
    passed = rows.loc[f"{url}/a.jpg"]
    assert [passed[name] for name in ("width", "height", "sent_width", "sent_height")] == [1600, 900, 1600, 900]
    assert rows.sent_bytes.isna().sum() == rows.sha256.isna().sum() == 3
    assert rows.loc[str(local)].sent_bytes > 0
    assert "s3cr3t" not in "".join(path.read_text(errors="ignore") for path in Path("out").rglob("*") if path.is_file())


@pytest.mark.usefixtures("public_loopback")
def test_what_cannot_be_passed_on_is_sent_as_bytes(command: Command) -> None:
    """Formats that providers do not take, animations, what a model refuses as it is; what is missing fails."""
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    moving = io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    files: dict[str, bytes | int] = {
        "/bitmap.jpg": picture(50, 40, "BMP"), "/moving.gif": moving.getvalue(), "/page.jpg": b"<html>no</html>",
        "/large.jpg": picture(5700, 5700), "/good.webp": picture(80, 60, "WEBP"),
    }  # fmt: skip
    with image_host(files) as (url, _), emulator(["--fetch-urls"]) as endpoint:
        source = listed(*(f"{url}{path}" for path in [*files, "/gone.jpg"]))
        more = [
            "--allow-private-hosts",
            "--pass-urls",
            "--model",
            "gpt-5.6-sol",
            "--detail",
            "original",
            "--base-url",
            endpoint,
        ]
        code, _, _ = command("run", source, "-o", "out", *more)
        sent = json.dumps([one["body"] for one in emulator_get(endpoint, "requests?last=9")])
    rows = pipeline.read("out").set_index("image")
    kinds = {str(name).removeprefix(url): kind for name, kind in rows.error_kind.items() if isinstance(kind, str)}
    assert (code, kinds) == (1, {"/page.jpg": "image_unsupported", "/gone.jpg": "image_missing"})
    assert (sent.count("data:image/"), sent.count(f"{url}/good.webp")) == (3, 1)
    large = rows.loc[f"{url}/large.jpg"]
    assert large.sent_width < 5700  # within the 30,000 patches
    answered = rows[rows.status == "ok"]
    assert (answered.prompt_tokens == answered.predicted_prompt_tokens).all()


@pytest.mark.usefixtures("public_loopback")
def test_a_host_that_is_closed_to_us() -> None:
    """The address is passed on all the same: the prediction is a range, whose upper end a budget reserves."""
    with image_host({"/a.jpg": 403}) as (url, _), emulator(["--fetch-urls"]) as endpoint:
        source = listed(f"{url}/a.jpg?sig=s3cret")
        refused = ask(source, endpoint, pass_urls=True, overrides={**HERE, "request.max_failures": 2})
        assert (refused.exit_code, refused.by_error) == (1, {"fetch_failed": 1})
        row = pipeline.read("out").iloc[0]
        assert pd.isna(row.width)
        assert f"Failed to download image from {url}/a.jpg" in row.error_message
        assert "s3cret" not in row.error_message
        with pytest.raises(BudgetReachedError):  # one tile would fit, the largest image does not
            ask(source, endpoint, out="poor", pass_urls=True, max_cost=0.004, overrides=PRICES)


def test_private_addresses_are_never_passed_on(make_image: MakeImage) -> None:
    """They are fetched here, and sent as bytes."""
    data = make_image("photos/a.jpg", 64, 48).read_bytes()
    with image_host({"/a.jpg": data}) as (url, whole), emulator([]) as endpoint:
        assert ask(listed(f"{url}/a.jpg"), endpoint, pass_urls=True, overrides=HERE).by_status == {"ok": 1}
        body = json.dumps(emulator_get(endpoint, "requests?last=1")[0]["body"])
    assert (whole, url in body, "data:image/jpeg;base64" in body) == (["/a.jpg"], False, True)


@pytest.mark.parametrize(
    ("host", "is_public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("93.184.216.34", True),
        ("127.0.0.1", False), ("127.1", False), ("2130706433", False), ("0x7f.1", False), ("0.0.0.0", False),  # noqa: S104
        ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("224.0.0.1", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False),
        ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("64:ff9b::808:808", True), ("2002:a00:1::", False),
        ("2001:0:a00:1::", False), ("::10.0.0.1", False), ("64:ff9b:1::808:808", False), ("fec0::1", False),
        ("ff02::1", False), ("3fff::1", False), ("127.0.0.1.", False), ("0177.0.0.1", False), ("192.0.0.192", False),
        ("168.63.129.16", False), ("255.255.255.255", False), ("240.0.0.1", False), ("192.0.2.1", False),
        ("localhost", False), ("LOCALHOST.", False), ("nas", False), ("nas.local", False),
        ("metadata.google.internal", False), ("a.localhost", False), ("printer.lan", False),
    ],
)  # fmt: skip
async def test_hosts(host: str, *, is_public: bool) -> None:
    """IP addresses in any notation, and names of this machine and its network."""
    assert await is_public_host(host) is is_public


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example/x.jpg?sig=1", "a.example"), ("HTTP://[::1]:80/x", "::1"), ("https://u:p@a.example/x", None),
        ("ftp://a.example/x", None), ("https:///x", None), ("https://a.example:99999/x", None), ("//a.example/x", None),
    ],
)  # fmt: skip
def test_logins_are_never_passed_on(url: str, host: str | None) -> None:
    assert host_to_pass(url) == host


def test_what_does_not_go_together(command: Command) -> None:
    """Exit 2 before anything is sent; a dry run shows the address that would be passed on, without its signature."""
    source = listed("https://a.example/a.jpg?sig=s3cret")
    for settings, words in (
        ({"overrides": {"images.max_side": 512}}, "leave `images.max_side` out"),
        ({"max_image_tokens": 99}, "leave `images.max_image_tokens` out"),
        ({"base_url": "https://api.moonshot.ai/v1"}, "moonshot takes images as bytes only"),
    ):
        with pytest.raises(InputError, match=words):
            pipeline.dry_run(source, model="gpt-4o", pass_urls=True, **settings)
    code, shown, _ = command("run", source, "--dry-run", "--pass-urls", "--model", "gpt-4o")
    assert (code, '"url": "https://a.example/a.jpg"' in shown, "s3cret" in shown) == (0, True, False)
    assert "the provider fetches it" in shown
