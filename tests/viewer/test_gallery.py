"""Rows by search, filter and order, while a run is at work: over parts of the real schema."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.store import parquet
from pipeline.store.reviews import ReviewWriter
from pipeline.store.schemas import schema
from pipeline.viewer import gallery as galleries
from pipeline.viewer.gallery import Gallery
from pipeline.viewer.parts import place

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
LABELS = pa.struct(
    {"mood": pa.string(), "people": pa.int64(), "tags": pa.list_(pa.string()), "sky": pa.struct({"blue": pa.bool_()})}
)
COLUMNS = schema(labels=LABELS)
ROWS: list[dict[str, Any]] = [
    {"id": "a.jpg", "caption": "A quay, and BOATS.", "cost_usd": Decimal("0.002"), "latency_s": 2.0},
    {"id": "boat/b.jpg", "caption": "Ein Café in Zürich", "cost_usd": Decimal("0.001"), "flags": ["repetition", "x"]},
    {"id": "c.jpg", "caption": None, "status": "failed", "error_kind": "timeout", "answered_at": None},
    {"id": "d.jpg", "caption": "100% of_it", "latency_s": 0.5, "labels": {"mood": "calm", "people": 3, "tags": ["t"]}},
    {"id": "e.jpg", "caption": "", "flags": None, "labels": {"mood": "wild", "sky": {"blue": True}}},
]


def row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "prompt_name": "caption",
        "status": "ok",
        "flags": [],
        "answered_at": AT + timedelta(seconds=number),
    } | values


def write(out: Path, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
    (out / "data").mkdir(parents=True, exist_ok=True)
    parquet.write_part(out / "data", number, pa.Table.from_pylist(list(rows), schema=COLUMNS))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The rows above, in three parts."""
    rows = [row(number, **values) for number, values in enumerate(ROWS)]
    for number, part in enumerate((rows[:2], rows[2:4], rows[4:])):
        write(tmp_path, number, part)
    return tmp_path


def found(gallery: Gallery, **asked: str) -> str:
    """The letters of the ids that a query finds, in its order."""
    page = gallery.page([(name.replace("__", "."), value) for name, value in asked.items()], None, 0)
    assert page.found.is_complete
    assert page.found.found == len(page.rows)
    return "".join(str(one["id"]).removeprefix("boat/")[0] for one in page.rows)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "abcde"),
        ({"q": "boat"}, "ab"),
        ({"q": "QUAY boats"}, "a"),
        ({"q": '"and boats"'}, "a"),
        ({"q": "boats quay jpg"}, "a"),
        ({"q": "zu\u0308rich CAFÉ"}, "b"),
        ({"q": "100% of_"}, "d"),
        ({"q": ".*"}, ""),
        ({"q": '"'}, "abcde"),
        ({"status": "failed"}, "c"),
        ({"status": "none"}, ""),
        ({"flags": "x"}, "b"),
        ({"error_kind": "timeout"}, "c"),
        ({"labels__mood": "calm"}, "d"),
        ({"labels__people": "3"}, "d"),
        ({"labels__people": "three"}, ""),
        ({"labels__tags": "t"}, "d"),
        ({"labels__sky.blue": "true"}, "e"),
        ({"labels__unknown": "t", "data": "x"}, "abcde"),
        ({"where": "cost_usd > 0.001 OR labels.people = 3"}, "ad"),
        ({"where": "caption IS NULL", "q": "c.jpg"}, "c"),
        ({"order": "cost"}, "bacde"),
        ({"order": "-cost"}, "abcde"),
        ({"order": "latency"}, "dabce"),
        ({"order": "-answered", "status": "ok"}, "edba"),
    ],
    ids=str,
)
def test_queries(out: Path, asked: dict[str, str], expected: str) -> None:
    """Words are found in captions and ids, in any case of letters; all that is asked for holds of each row."""
    assert found(Gallery(out), **asked) == expected


def test_reviews_are_searched_and_filtered(out: Path) -> None:
    """A corrected caption is found by its own words; a review of another answer counts no more."""
    gallery = Gallery(out)
    answered_at = ticks(1)
    gallery.review(("boat/b.jpg", "caption"), place(0, 1), answered_at, "good", "A red tram")
    ReviewWriter(out).append(("a.jpg", "caption"), AT, mark="bad")
    ReviewWriter(out).append(("d.jpg", "caption"), AT, mark="bad")  # of an answer that is not there any more
    assert found(gallery, mark="good") == found(gallery, mark="corrected") == found(gallery, q="tram RED") == "b"
    assert found(gallery, q="Café") == ""
    assert found(gallery, mark="bad") == "a"
    assert found(gallery, mark="open") == "cde"
    assert found(gallery, mark="reviewed", order="cost") == "ba"
    gallery.review(("boat/b.jpg", "caption"), place(0, 1), answered_at, None, "Ein Café in Zürich")
    assert found(gallery, q="Café") == "b"
    assert found(gallery, mark="reviewed") == "a"
    assert gallery.reviewed == {("boat/b.jpg", "caption")}  # reviewed twice


def ticks(number: int) -> int:
    return int((AT + timedelta(seconds=number)).timestamp()) * 1_000_000


def test_pages_stay_while_rows_are_marked_and_parts_change(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next page follows the one that is seen; where a run replaced what is asked for, it is found anew."""
    monkeypatch.setattr(galleries, "ROWS_A_PAGE", 2)
    gallery = Gallery(out)
    first = gallery.page([("mark", "open")], None, 0)
    for number, one in enumerate(first.rows):
        gallery.review((str(one["id"]), "caption"), place(0, number), ticks(number), "good", None)
    second = gallery.page([("mark", "open")], first.results, 1)
    assert [one["id"] for one in second.rows] == ["c.jpg", "d.jpg"]
    assert [one["id"] for one in gallery.page([("mark", "open")], None, 0).rows] == ["c.jpg", "d.jpg"]
    write(out, 3, [row(9, id="f.jpg")])
    assert gallery.page([("mark", "open")], first.results, 1).total == 5
    write(out, 1, [row(7, id="d.jpg", caption="new"), row(8, id="c.jpg", caption="newer")])
    renewed = gallery.page([("mark", "open")], first.results, 1)
    assert ([one["id"] for one in renewed.rows], renewed.total) == (["e.jpg", "f.jpg"], 6)
    assert gallery.row(("c.jpg", "caption"), place(1, 0))["caption"] == "newer"
    with pytest.raises(InputError, match="replaced this answer"):
        gallery.review(("c.jpg", "caption"), place(1, 0), None, "bad", None)
    (out / "data" / parquet.part_name(0)).unlink()
    with pytest.raises(InputError, match=r"a\.jpg: this row is no longer in"):
        gallery.row(("a.jpg", "caption"), place(0, 0))
    assert gallery.page([], None, 0).total == 4


def test_what_rows_can_be_filtered_by(out: Path) -> None:
    """Values and how many rows have each; free text is no choice. Of runs the newest come first, and no others."""

    def values(number: int) -> dict[str, Any]:
        return {"model": f"m{number}", "run_id": f"2026-{100 + number}", "labels": {"mood": "calm"}}

    rows = [row(number, id=f"{number}", **values(number)) for number in range(500)]
    write(out, 3, rows)
    facets = Gallery(out).facets()
    assert facets.pop("run_id") == [(f"2026-{number}", 1) for number in range(599, 559, -1)]
    assert facets == {
        "status": [("ok", 504), ("failed", 1)],
        "prompt_name": [("caption", 505)],
        "error_kind": [("timeout", 1)],
        "flags": [("repetition", 1), ("x", 1)],
        "labels.mood": [("calm", 501), ("wild", 1)],
        "labels.people": [("3", 1)],
        "labels.tags": [("t", 1)],
        "labels.sky.blue": [("true", 1)],
    }


def test_an_output_directory_without_rows(tmp_path: Path) -> None:
    """A run has only just begun; and what is none is said."""
    with pytest.raises(InputError, match="no vision-batch output here"):
        Gallery(tmp_path)
    (tmp_path / "data").mkdir()
    gallery = Gallery(tmp_path)
    assert found(gallery, q="x", order="cost") == ""
    assert gallery.facets() == {}
    write(tmp_path, 0, [row(1, id="a.jpg")])
    assert found(gallery, labels__mood="calm") == ""
    assert found(gallery) == "a"
