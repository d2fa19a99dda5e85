"""The viewer in a real Chromium: what a person does, and what a hostile dataset cannot do."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pipeline
from tests.browsers import PHONE, Browse, serious_faults
from tests.builders import ask
from tests.support import MakeImage
from tests.viewers import viewed

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = """<img src=x onerror="alert('caption')"> & it's a "quay" </script><script>alert(1)</script>"""
FILE = """it's "5" <img src=x onerror=alert(2)> & #1?.jpg"""
PRICE = {"prices.models": [{"model": "*", "input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10"}]}
OUTSIDE = """box => [...document.querySelectorAll(box + " .picture img")].filter(
    (one) => one.clientHeight > one.parentNode.clientHeight + 1).map((one) => one.src)"""
"""Images that stand out of their boxes, which cut them off."""
ONE_BELOW_THE_OTHER = "all => all.every((one, at) => !at || one.offsetTop > all[at - 1].offsetTop)"
CAPTIONS = {"a.jpg": HOSTILE, FILE: "A grey harbour.", "c.jpg": "A red-brown barn, and no boats."}


@pytest.fixture
def out(make_image: MakeImage, endpoint: str) -> Path:
    """Four rows: three with captions, one of a broken file. The first costs the most."""
    for number, name in enumerate(CAPTIONS):
        make_image(f"photos/{name}", 900 if name == "a.jpg" else 300, 600, seed=number)
    Path("photos/d.jpg").write_bytes(b"no image")
    ask(
        "photos",
        endpoint,
        concurrency=1,
        overrides=PRICE,
        on_answer=lambda row, _: {"caption": CAPTIONS[row["id"]], "flags": [row["id"][:1]]},
    )
    return Path("out")


def names(page: "Page") -> list[str]:
    """The ids of the rows, once the page has asked for them."""
    page.wait_for_selector("#rows:not([aria-busy])")
    return page.locator("#rows .name").all_inner_texts()


def shows(page: "Page", count: int) -> None:
    """Wait until the page shows this number of rows."""
    from playwright.sync_api import expect  # noqa: PLC0415 - most tests need no browser

    expect(page.locator("#rows .row")).to_have_count(count)


def current(page: "Page") -> int:
    """The place of the current row."""
    found: int = page.locator("#rows [aria-current]").evaluate("one => [...one.parentNode.children].indexOf(one)")
    return found


def texts(page: "Page") -> list[str]:
    return page.locator("#rows .row > .words > .answer").all_inner_texts()


def test_search_filter_and_order(out: Path, browse: Browse) -> None:
    """Each stands in the address, so that the page can be reloaded and gone back to; foreign text is text."""
    with viewed(out) as viewer, browse(viewer.url) as page:
        assert sorted(names(page)) == sorted([*CAPTIONS, "d.jpg"])
        assert HOSTILE in texts(page)
        assert page.locator(".placeholder").inner_text() == "The run read no image for this row."
        assert page.evaluate("document.images.length") == 3  # and that placeholder for the one that is broken
        assert page.evaluate(OUTSIDE, ".row") == []
        page.get_by_role("searchbox").fill("BARN boats")
        shows(page, 1)
        assert names(page) == ["c.jpg"]
        assert page.locator("#rows mark").all_inner_texts() == ["barn", "boats"]
        page.get_by_role("searchbox").fill("bar-n $.*+?()[]{}|/\\^")  # no letter of it is part of a pattern
        shows(page, 0)
        page.get_by_role("searchbox").fill("red-brown")
        shows(page, 1)
        assert page.locator("#rows mark").all_inner_texts() == ["red-brown"]
        page.get_by_role("button", name="Clear filters").click()
        page.get_by_label("Status").select_option("failed")
        shows(page, 1)
        assert page.locator("#count").inner_text() == "1 row of 4"
        assert names(page) == ["d.jpg"]
        page.reload()
        assert names(page) == ["d.jpg"]
        page.go_back()
        page.get_by_label("Order").select_option("-cost")
        page.locator("#rows .row").first.get_by_text("a.jpg", exact=True).wait_for()
        assert names(page)[::3] == ["a.jpg", "d.jpg"]  # no cost comes last
        page.get_by_text("More filters").click()
        page.get_by_label("Condition over columns").fill("width = 300 AND (")
        page.wait_for_selector("#problem:not([hidden])")
        assert "where:" in page.locator("#problem").inner_text()
        page.get_by_label("Condition over columns").fill("width = 300")
        shows(page, 2)
        assert page.locator("#problem").is_hidden()
        assert serious_faults(page) == []


def test_mark_correct_and_undo_by_keys(out: Path, browse: Browse) -> None:
    """One key marks and goes on; a caption is corrected in place. Each is saved at once, and there after a reload."""
    with viewed(out) as viewer, browse(viewer.url, dark=True) as page:
        first, second, *_ = names(page)
        page.keyboard.press("g")
        page.keyboard.press("b")
        page.wait_for_selector(".is-good + .is-bad")
        assert current(page) == 2
        page.keyboard.press("u")
        page.locator(".is-bad").wait_for(state="detached")
        page.keyboard.press("e")
        page.keyboard.press("Control+A")
        page.keyboard.type("A quay & <b>boats</b>, \"seen\" from 'above'.")
        assert serious_faults(page) == []
        page.keyboard.press("Enter")
        page.get_by_text("as answered").wait_for()
        assert current(page) == 2
        page.keyboard.press("e")
        page.keyboard.type(" and this is not saved")
        page.keyboard.press("Escape")
        page.reload()
        assert names(page)[:2] == [first, second]
        assert texts(page)[1] == "A quay & <b>boats</b>, \"seen\" from 'above'."
        assert page.locator(".is-good").count() == 1
        page.get_by_label("Review", exact=True).select_option("corrected")
        shows(page, 1)
        page.get_by_role("searchbox").fill("above")
        assert names(page) == [second]
    frame = pipeline.reviews("out").set_index("id")
    assert frame.loc[[first, second], "mark"].tolist()[:1] == ["good"]
    assert frame["applies"].all()
    assert frame["caption"].to_dict()[second] == "A quay & <b>boats</b>, \"seen\" from 'above'."


def test_one_row_large_on_a_phone(out: Path, browse: Browse) -> None:
    """Enter opens, Escape closes and goes back to the row; the list of keys; a list to ask again."""
    with viewed(out) as viewer, browse(viewer.url, width=PHONE, dark=True) as page:
        first, *others = names(page)
        second = next(name for name in others if name in CAPTIONS)
        page.keyboard.press("Enter")
        page.get_by_role("rowheader", name="attempts").wait_for()
        assert page.locator("#large-name").inner_text() == first
        for _ in range(1 + others.index(second)):
            page.keyboard.press("j")
        page.get_by_role("heading", name=second).wait_for()
        assert page.locator("#large img").evaluate("one => one.decode().then(() => one.naturalWidth)") in {300, 900}
        page.keyboard.press("b")
        page.wait_for_selector("#rows .is-bad")
        page.get_by_role("rowheader", name="sha256", exact=True).wait_for()
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.className").startswith("row")
        page.keyboard.press("?")
        assert page.get_by_role("dialog", name="Keys").is_visible()
        assert page.locator("#help dt").evaluate_all(ONE_BELOW_THE_OTHER)
        page.keyboard.press("Escape")
        page.get_by_label("Review", exact=True).select_option("bad")
        page.get_by_role("button", name="Ask these 1 again").click()
        page.get_by_role("dialog", name="Ask these again").wait_for()
        command = page.locator("#list pre").inner_text()
        assert "null" not in page.locator("#list").inner_text()
    (listed,) = Path("out/reviews").glob("*.txt")
    assert listed.read_text() == f"{second}\n"
    assert command == f"vision-batch run photos -o out -c out/config.toml --only {listed}"
