"""Two datasets side by side: blind, shuffled, and what the votes say."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.store import parquet
from pipeline.store.schemas import schema
from pipeline.viewer import comparison as comparisons
from pipeline.viewer.comparison import Comparison, result_of
from pipeline.viewer.gallery import Gallery
from tests.browsers import PHONE, Browse, serious_faults
from tests.viewers import viewed

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def made(
    out: Path, texts: Mapping[str, str | None], *, prompts: Sequence[str] = ("caption",), model: str = "m"
) -> Path:
    """An output directory with these captions by id, of each prompt."""
    rows = [
        {"id": name, "prompt_name": prompt, "status": "ok", "caption": text, "answered_at": AT, "model": model}
        for name, text in texts.items()
        for prompt in prompts
    ]
    (out / "data").mkdir(parents=True, exist_ok=True)
    parquet.write_part(out / "data", 0, pa.Table.from_pylist(rows, schema=schema()))
    return out


def compared(one: Path, other: Path, seed: int = 0) -> Comparison:
    return Comparison(Gallery(one), Gallery(other), seed)


def each(comparison: Comparison) -> list[dict[str, Any]]:
    """All pairs that are shown, one after the other."""
    found: list[dict[str, Any]] = []
    shown: dict[str, Any] = comparison.show(0, 1)
    while shown["number"] is not None:
        found.append(shown)
        shown = comparison.show(shown["number"] + 1, 1)
    return found


def test_pairs_are_shuffled_and_blind(tmp_path: Path) -> None:
    """Rows with two texts that differ; order and sides follow from the seed, and nothing says whose a text is."""
    names = [f"{number}.jpg" for number in range(24)]
    one = made(tmp_path / "one", {**{name: f"mine {name}" for name in names}, "x": None, "same": "same"}, model="m1")
    other = made(tmp_path / "two", {**{name: f"theirs {name}" for name in names}, "x": "x", "same": "same"}, model="m2")
    pairs = each(compared(one, other))
    assert {pair["total"] for pair in pairs} == {26}
    assert sorted(pair["row"]["id"] for pair in pairs) == sorted(names)
    assert [pair["row"]["id"] for pair in pairs] != names
    sides = [pair["texts"][0]["caption"].startswith("mine") for pair in pairs]
    assert 4 < sum(sides) < 20
    assert each(compared(one, other)) == pairs
    assert [pair["row"]["id"] for pair in each(compared(one, other, seed=1))] != [pair["row"]["id"] for pair in pairs]
    assert not any(word in str(pairs) for word in ("m1", "m2", str(one), str(other), "two"))


def test_equal_texts_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some in one go; then the page is given the place to look on from, in both directions."""
    monkeypatch.setattr(comparisons, "_ALIKE", 4)
    names = [f"{number}" for number in range(10)]
    comparison = compared(
        made(tmp_path / "one", dict.fromkeys(names, "x")), made(tmp_path / "two", dict.fromkeys(names, "x"))
    )
    assert comparison.show(0, 1)["next"] == 4
    assert comparison.show(8, 1)["next"] is None
    assert comparison.show(9, -1)["next"] == 5
    assert comparison.show(3, -1)["next"] is None


def test_prompts_pair_by_name(tmp_path: Path) -> None:
    """One prompt on each side pairs whatever its name; of several, each with its own."""
    one = made(tmp_path / "one", {"a": "A"}, prompts=["short"])
    other = made(tmp_path / "two", {"a": "B"}, prompts=["long"])
    assert len(each(compared(one, other))) == 1
    other = made(tmp_path / "two", {"a": "B"}, prompts=["long", "short"])
    assert [pair["row"]["prompt"] for pair in each(compared(one, other))] == ["short"]
    for bad, said in ((made(tmp_path / "none", {"b": "B"}), "no id in common"), (one, "with itself")):
        with pytest.raises(InputError, match=said):
            compared(one, bad)


def test_votes_are_kept_and_those_on_replaced_answers_do_not_count(tmp_path: Path) -> None:
    """The newest vote of a pair counts; the next session goes on where no vote is."""
    names = [f"{number}" for number in range(6)]
    one = made(tmp_path / "one", dict.fromkeys(names, "mine"))
    other = made(tmp_path / "two", dict.fromkeys(names, "theirs"))
    comparison = compared(one, other)
    pairs = each(comparison)
    for pair in pairs[:4]:
        is_mine_a = pair["texts"][0]["caption"] == "mine"
        comparison.vote(pair["number"], pair["row"]["id"], "a" if is_mine_a else "b")
    comparison.vote(pairs[3]["number"], pairs[3]["row"]["id"], "tie")
    comparison.vote(pairs[2]["number"], pairs[2]["row"]["id"], None)
    with pytest.raises(InputError, match="reload"):
        comparison.vote(pairs[0]["number"], pairs[1]["row"]["id"], "a")
    later = compared(one, other)
    result = later.result()
    assert [result[name] for name in ("this", "other", "tie", "replaced")] == [2, 0, 1, 0]
    assert later.show(None, 1)["number"] == pairs[2]["number"]
    assert later.show(pairs[3]["number"], 1)["side"] == "tie"
    rows = pq.read_table(one / "comparisons").to_pylist()
    assert len(rows) == 6
    assert {row["other"] for row in rows} == {str(other.resolve())}
    answers = pq.read_table(one / "data").to_pylist()
    renewed = [row | {"answered_at": row["answered_at"].replace(hour=9)} for row in answers]
    parquet.write_part(one / "data", 0, pa.Table.from_pylist(renewed, schema=schema()))
    result = later.result()
    assert [result[name] for name in ("this", "other", "tie", "replaced")] == [0, 0, 0, 3]


@pytest.mark.parametrize(
    ("this", "other", "low", "high"),
    [(10, 0, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (50, 50, 0.4038, 0.5962), (8, 2, 0.4902, 0.9433)],
)
def test_the_interval_is_wilsons(this: int, other: int, low: float, high: float) -> None:
    """The score interval without continuity correction, as published tables have it."""
    found = result_of(this=this, other=other, tie=3)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)
    assert result_of(this=0, other=0, tie=3).share is None


def test_voting_in_a_browser(tmp_path: Path, browse: Browse) -> None:
    """By keys, on a phone, in the dark; the result names the winner, and hostile text is text."""
    hostile = "<img src=x onerror=alert(1)>"
    one = made(tmp_path / "one", {f"{n}": hostile for n in range(4)}, model="m1")
    other = made(tmp_path / "two", {f"{n}": "A quay." for n in range(4)}, model="m2")
    with viewed(one, other) as viewer, browse(viewer.url, width=PHONE, dark=True) as page:
        for votes in range(4):
            page.get_by_text(f"Pair {votes + 1} of 4; {votes} vote").wait_for()
            assert "m1" not in page.content()
            page.keyboard.press("a" if page.locator("#text-a").inner_text() == hostile else "b")
        page.get_by_text("There is no further pair.").wait_for()
        page.keyboard.press("u")
        page.get_by_text("Pair 4 of 4; 3 votes").wait_for()
        assert serious_faults(page) == []
        page.get_by_role("button", name="Show the result").click()
        page.get_by_role("dialog", name="The result").wait_for()
        assert "one is preferred in 100% of 3 votes" in page.locator("#result-words").inner_text()
        assert page.get_by_role("row", name="m1 3").is_visible()
