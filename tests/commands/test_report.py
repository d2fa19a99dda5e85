"""`report`: what the page says, what it does in a browser, and that it does nothing else."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pipeline
from pipeline.config.loading import load_config
from pipeline.errors import ErrorKind, InputError
from pipeline.limits.pauses import Paused
from pipeline.locations import ImageUrl, LocalFile, Location, Origin
from pipeline.records import Answer, Failure, ImageFacts, ImageRecord, Outcome, Status, Usage
from pipeline.store.dataset import Dataset
from pipeline.store.reviews import ReviewWriter
from tests.browsers import PHONE, Browse, serious_faults
from tests.support import Command, MakeImage

if TYPE_CHECKING:
    from playwright.sync_api import Page

BEGAN = datetime(2026, 11, 20, 22, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>\"' </script><script>alert(2)</script>"
QUOTED = 'it\'s a "quoted" <b>name &amp; more.jpg'
SCHEMA = (
    '{"type": "object", "properties": {"scene": {"type": "string"}, "people": {"type": "integer"}}, '
    '"required": ["scene", "people"], "additionalProperties": false}'
)
ROWS = 70


def outcome(number: int, path: Path | None, **more: object) -> Outcome:
    """Row `number`, answered a second after the one before; its original is at `path`."""
    name = f"p{number:02d}.jpg" if path is None else path.name
    where: Location = LocalFile(name, name) if path else ImageUrl(f"https://example.com/{name}", "")
    usage = Usage(prompt_tokens=100, completion_tokens=number, total_tokens=100 + number)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path else "0" * 64
    facts = ImageFacts(
        width=320, height=240, sent_width=320, sent_height=240, sent_bytes=9, source_bytes=9, sha256=digest
    )
    labels = {"scene": "outdoor" if number % 2 else "indoor", "people": number}
    answer = Answer(status=Status.OK, caption=f"picture {number}", model="gpt-4o", usage=usage, latency_s=0.5)
    made = Outcome(
        record=ImageRecord(name, (where,)),
        result=replace(answer, labels=labels),
        image_facts=(facts,),
        attempts=1,
        usage=usage,
        predicted_prompt_tokens=80,
        cost_usd=Decimal(number) / 1000,
        asked_at=BEGAN,
        answered_at=BEGAN + timedelta(seconds=number),
    )
    return replace(made, **more)  # type: ignore[arg-type] # of the caller


@contextmanager
def dataset(folder: Path, *outcomes: Outcome) -> Iterator[Dataset]:
    """OUT with these rows, held as a run holds it."""
    (folder / "labels.json").write_text(SCHEMA)
    settings = {"request.model": "gpt-4o", "request.labels": str(folder / "labels.json")}
    config = load_config(None, {**settings, "request.prompt": f"Look at {HOSTILE}"}, {})
    with Dataset.open(folder / "out", config=config, run_id="first", now=lambda: BEGAN) as opened:
        opened.note_origins([Origin("photos", (str(folder / "photos"),))])
        opened.commit(outcomes)
        opened.seal()
        yield opened


@pytest.fixture
def out(tmp_path: Path, make_image: MakeImage) -> Path:
    """Rows of every status; images that are there, gone, changed, at an address, and with hostile names."""
    photos = [make_image(f"photos/p{number:02d}.jpg", 64, 48, number) for number in range(ROWS - 2)]
    rows = [outcome(number, photo) for number, photo in enumerate(photos)]
    answer = rows[1].result
    assert isinstance(answer, Answer)
    rows[1] = replace(rows[1], result=replace(answer, caption=HOSTILE))
    rows[2] = replace(rows[2], result=replace(answer, status=Status.TRUNCATED, labels=None, caption="cut off"))
    gone = Failure(kind=ErrorKind.TIMEOUT, message=f"no answer from {HOSTILE}")
    rows[3] = replace(rows[3], result=gone, usage=Usage(), cost_usd=None)
    rows[4] = replace(rows[4], image_facts=(replace(rows[4].image_facts[0], flags=("decoder_warning",)),))
    rows += [outcome(ROWS - 2, make_image(f"photos/{QUOTED}", 48, 64)), outcome(ROWS - 1, None)]
    photos[5].unlink()
    photos[6].write_bytes(b"other bytes")
    pause = Paused("http://127.0.0.1/v1", "rate limited", BEGAN, BEGAN + timedelta(seconds=7), 1, 7.0)
    with dataset(tmp_path, *rows) as opened:
        opened.note_pauses([pause])
        opened.end_run()
    return tmp_path / "out"


def names(page: "Page") -> list[str]:
    return [one.split(".jpg")[0] for one in page.locator(".card .name").all_inner_texts()]


def test_the_gallery_in_a_browser(browse: Browse, out: Path) -> None:
    """Search, filters, sorting, more rows, the large picture, by keyboard; what is hostile does nothing."""
    for name, mark, caption in (("p10.jpg", "good", "A person's own <b>words</b>"), ("p11.jpg", "bad", None)):
        at = BEGAN + timedelta(seconds=int(name[1:3]))
        ReviewWriter(out).append((name, "caption"), at, mark=mark, caption=caption)  # type: ignore[arg-type] # of a loop
    ReviewWriter(out).append(("p12.jpg", "caption"), BEGAN, mark="bad")  # of an earlier answer
    path = pipeline.report(out)
    with browse(path) as page:
        cards, count = page.locator(".card"), page.locator("#count")
        assert cards.count() == 60
        page.get_by_role("button", name="Show 10 more").click()
        assert cards.count() == ROWS
        page.get_by_role("searchbox").fill("ONERROR")
        assert (names(page), count.inner_text()) == (["p01", "p03"], "2 of 70 rows match")
        assert HOSTILE in cards.first.inner_text()
        page.get_by_role("combobox", name="Status").select_option("failed")
        assert names(page) == ["p03"]
        page.get_by_role("searchbox").fill("nothing like it")
        page.get_by_role("button", name="Clear all filters").click()
        assert count.inner_text() == "70 rows"
        page.get_by_role("combobox", name="Flag").select_option("decoder_warning")
        assert names(page) == ["p04"]
        page.get_by_role("combobox", name="Flag").select_option("")
        page.get_by_role("combobox", name="Label").select_option("scene: outdoor")
        page.get_by_role("combobox", name="Sort by").select_option("cost")
        assert names(page)[:2] == ["p69", "p67"]
        page.get_by_role("combobox", name="Label").select_option("")
        page.get_by_role("button", name="Show 10 more").click()
        assert page.locator(".placeholder").all_inner_texts() == [
            "The image is at an address, and nothing is fetched.",
            "The image has changed since the run read it.",
            "The image is no longer where the run read it.",
        ]
        page.get_by_role("combobox", name="Review").select_option("corrected")
        assert names(page) == ["p10"]
        assert "A person's own <b>words</b>" in cards.first.inner_text()
        page.get_by_text("as answered").click()
        assert "picture 10" in cards.first.inner_text()
        page.get_by_role("combobox", name="Review").select_option("bad")
        assert names(page) == ["p11"]
        assert "people: 1 bad, 1 corrected, 1 good." in page.locator("#gallery + .note").inner_text()
        page.get_by_role("combobox", name="Review").select_option("")
        page.get_by_role("button", name="Enlarge p67").focus()
        page.keyboard.press("Enter")
        assert page.get_by_role("dialog").is_visible()
        page.keyboard.press("ArrowLeft")
        assert QUOTED in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
        assert not page.get_by_role("dialog").is_visible()
        assert serious_faults(page) == []


def test_on_a_phone_in_the_dark_and_without_scripts(browse: Browse, out: Path) -> None:
    """Nothing is wider than a phone; without scripts all rows are there, and no control that does nothing."""
    path = pipeline.report(out, out.parent / "other.html")
    with browse(path, width=PHONE, dark=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 22)"
        assert serious_faults(page) == []
    with browse(path, scripts=False) as page:
        assert (page.locator(".card").count(), page.locator("#controls").is_visible()) == (ROWS, False)


def test_what_it_says(browse: Browse, out: Path) -> None:
    """Figures, tables, the pause and the failures, by the rows."""
    with browse(pipeline.report(out, cards=0)) as page:
        figures = dict(
            zip(page.locator(".figure dt").all_inner_texts(), page.locator(".value").all_inner_texts(), strict=True)
        )
        assert figures["Rows"] == "70"
        assert figures["Failed or invalid"] == "1"
        assert figures["Cost"] == "$2.41"  # 0 to 69 thousandths, without the one that failed
        assert figures["Billed of predicted"] == "1.250"
        assert page.get_by_role("columnheader", name="For 1,000").count() == 2
        assert abs(float(figures["Median latency"].removesuffix(" s")) - 0.5) < 0.03
        assert page.locator(".stack").get_attribute("aria-label") == "Rows by status: ok 68, truncated 1, failed 1"
        model = page.locator("table", has_text="By model").locator("tbody tr").first.locator("th, td")
        assert model.all_inner_texts()[:4] == ["gpt-4o", "69", "6.9k", "2.4k"]
        assert page.locator(".pause").count() == 2
        page.get_by_text("1 pause").click()
        pause = page.get_by_role("listitem").filter(has_text="rate limited")
        assert pause.inner_text() == "rate limited for 7 s from 20 Nov 22:00:00: http://127.0.0.1/v1"
        failures = page.locator("section", has=page.get_by_role("heading", name="Failures by kind"))
        assert [one.split() for one in failures.locator(".kind").all_inner_texts()] == [["timeout", "1"]]
        assert HOSTILE in failures.inner_text()
        scene = page.locator("div", has=page.get_by_role("heading", name="scene", exact=True)).last
        assert scene.locator(".number").all_inner_texts() == ["34", "34"]
        assert not page.locator("#gallery").count()


def test_while_a_run_holds_it(tmp_path: Path, make_image: MakeImage) -> None:
    """The rows of the parts so far, and one line that says so."""
    with dataset(tmp_path, outcome(1, make_image("photos/a.jpg"))) as opened:
        opened.commit([outcome(2, make_image("photos/b.jpg"))])
        opened.write_status({"state": "running", "skipped": 0, "asked": 2, **opened.overview()})
        text = pipeline.report(tmp_path / "out").read_text()
        assert "A run is at work on this dataset" in text
        assert "Not in data/ yet, and not in this report: 1 committed row." in text
        assert text.count('class="card"') == 1


def test_what_cannot_be_reported(command: Command, out: Path, tmp_path: Path) -> None:
    """One line, and nothing is written."""
    (tmp_path / "folder.html").mkdir()
    for arguments, code, words in (
        (("nowhere",), 2, "nowhere: no vision-batch output here"),
        ((str(out), "--output", "a.pdf"), 2, "--output a.pdf: a report is HTML: give it a name that ends in .html"),
        ((str(out), "--output", "folder.html"), 2, "--output folder.html: this is a folder"),
        ((str(out), "--output", "no/a.html"), 2, "--output no/a.html: there is no folder no"),
        ((str(out), "--cards", "9999"), 2, "9999 is not in the range 0<=x<=1000"),
    ):
        found = command("report", *arguments)
        assert (found[0], found[1]) == (code, "")
        assert words in found[2]
    with pytest.raises(InputError, match="cards=-1"):
        pipeline.report(out, cards=-1)
    code, said, _ = command("report", str(out), "--cards", "3")
    assert (code, "70 rows, 3 of them in the gallery" in said) == (0, True)


def test_a_new_dataset_has_a_report(tmp_path: Path) -> None:
    """No rows: no chart, no gallery, no error."""
    with dataset(tmp_path):
        pass
    assert "There are no rows yet." in pipeline.report(tmp_path / "out").read_text()
