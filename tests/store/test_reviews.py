"""Reviews: marks and corrections in `OUT/reviews/`, beside a run that is at work."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.errors import InputError, ResourceError
from pipeline.store import appended, reviews
from pipeline.store.reviews import ReviewWriter, read_reviews
from tests.builders import ask
from tests.support import MakeImage

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
KEY, OTHER = ("a 'b'.jpg", "caption"), ("<i>.jpg", "caption")


def test_the_newest_review_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over several writers, files and a clock that was set back; one that says nothing takes back the others."""
    monkeypatch.setattr(appended, "ROWS_A_FILE", 2)
    (tmp_path / "data").mkdir()
    assert read_reviews(tmp_path) == {}
    first = ReviewWriter(tmp_path, lambda: AT)
    first.append(KEY, AT, mark="bad")
    first.append(OTHER, None, mark="good")
    first.append(KEY, AT, mark="good", caption="A quay\nwith 'boats' <b>")
    second = ReviewWriter(tmp_path, lambda: AT - timedelta(days=1))
    second.append(OTHER, None)
    found = read_reviews(tmp_path)
    assert set(found) == {KEY}
    assert (found[KEY].mark, found[KEY].caption) == ("good", "A quay\nwith 'boats' <b>")
    assert found[KEY].applies_to(AT)
    assert not found[KEY].applies_to(AT + timedelta(seconds=1))
    assert not found[KEY].applies_to(None)
    assert len(list((tmp_path / "reviews").iterdir())) == 3
    assert pd.read_parquet(tmp_path / "reviews")["mark"].tolist().count("good") == 2


def test_a_review_is_of_one_answer(make_image: MakeImage, endpoint: str) -> None:
    """`pipeline.reviews` says which still apply: an answer that was asked again is another one."""
    for name in ("a.jpg", "b.jpg"):
        make_image(f"photos/{name}")
    ask("photos", endpoint)
    assert list(pipeline.reviews("out").columns) == [*reviews.SCHEMA.names, "applies"]
    assert pipeline.reviews("out").empty
    answered = pipeline.read("out", ["id", "answered_at"])
    writer = ReviewWriter(Path("out"))
    for name, answered_at in answered.itertuples(index=False):
        writer.append((name, "caption"), answered_at.to_pydatetime(), mark="bad")
    writer.append(("gone.jpg", "caption"), None, mark="bad")
    assert pipeline.read("out", "id", reviews=True).to_dict("list") == {"id": [*answered.id], "mark": ["bad", "bad"]}
    at = answered.set_index("id").answered_at
    writer.append(("a.jpg", "caption"), at["a.jpg"].to_pydatetime(), caption="A quay.")
    writer.append(("b.jpg", "caption"), at["b.jpg"].to_pydatetime(), caption="A tram.", mark="good")
    read = pipeline.read("out", reviews=True).set_index("id")
    assert read["caption"].to_dict() == {"a.jpg": "A quay.", "b.jpg": "A tram."}
    assert read["mark"].dropna().to_dict() == {"b.jpg": "good"}
    assert set(read.columns) == {*pipeline.read("out").columns, "mark"} - {"id"}
    assert ask("photos", endpoint, only=["a.jpg"]).replaced_corrections == 1
    assert ask("photos", endpoint).replaced_corrections == 0
    assert pipeline.read("out", ["id", "caption"], reviews=True).set_index("id").caption["a.jpg"] != "A quay."
    notes = pipeline.export("out", "jsonl", "rows.jsonl").notes
    assert notes == (
        "1 caption corrected by a person (out/reviews); `reviews=ignore` exports the answers as they came",
        "1 corrected caption in out/reviews not applied: a run has replaced the answer since",
    )
    frame = pipeline.reviews("out")
    assert frame["id"].tolist() == ["a.jpg", "b.jpg", "gone.jpg"]
    assert frame["applies"].tolist() == [False, True, False]


def test_what_is_no_review(tmp_path: Path) -> None:
    """A damaged file, another table and a foreign mark are named, with the way out; a link is not written through."""
    with pytest.raises(InputError, match="no vision-batch output here"):
        ReviewWriter(tmp_path)
    with pytest.raises(InputError, match="no vision-batch output here"):
        pipeline.reviews(tmp_path)
    (tmp_path / "data").mkdir()
    writer = ReviewWriter(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "reviews").symlink_to("elsewhere")
    with pytest.raises(ResourceError, match="is a link"):
        writer.append(KEY, AT, mark="good")
    (tmp_path / "reviews").unlink()
    writer.append(KEY, AT, mark="good")
    (good,) = (tmp_path / "reviews").iterdir()
    (tmp_path / "reviews" / ".unfinished.parquet").write_bytes(b"PAR1")
    assert set(read_reviews(tmp_path)) == {KEY}
    table = pq.read_table(good)
    for bad in (table.drop(["mark"]), table.set_column(3, "mark", [["perhaps"]]), table.set_column(0, "id", [[7]])):
        pq.write_table(bad, tmp_path / "reviews" / "z.parquet")
        if bad["id"].to_pylist() == [7]:
            assert len(read_reviews(tmp_path)) == 2  # numbers are ids too, as texts
            continue
        with pytest.raises(ResourceError, match=r"z\.parquet: .*[Mm]ove"):
            read_reviews(tmp_path)
    (tmp_path / "reviews" / "z.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ResourceError, match=r"z\.parquet: these reviews cannot be read"):
        read_reviews(tmp_path)
