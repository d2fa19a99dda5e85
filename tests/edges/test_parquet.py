"""Rows to Parquet parts and back."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edges import parquet
from pipeline.errors import ResourceError

COLUMNS = parquet.schema()


def table(*ids: str, caption: str | None = "c", prompt_name: str = "caption") -> pa.Table:
    rows = [{"id": name, "prompt_name": prompt_name, "caption": caption} for name in ids]
    return parquet.table_of([parquet.encode_row(row) for row in rows], COLUMNS)


def test_values_survive_the_way_through_the_ledger() -> None:
    """Proves that money stays exact, times stay instants with microseconds, and text stays itself."""
    row = {
        "id": "Ünï/\u2028\0.jpg",
        "flags": ["soft_refusal", "repetition"],
        "cost_usd": Decimal("123456789.000000001"),
        "attempts": 3,
        "prompt_tokens": 2**63 - 1,
        "latency_s": 0.1,
        "asked_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "answered_at": datetime(2026, 1, 2, 5, 4, 5, 0, tzinfo=timezone(timedelta(hours=2))),
        "no such column": 1,
    }
    (read,) = parquet.table_of([parquet.encode_row(row)], COLUMNS).to_pylist()
    told = {name: value for name, value in read.items() if value is not None}
    del row["no such column"]
    assert told == row
    assert read["answered_at"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.fixed_dictionaries(
    {
        "id": st.text(st.characters(exclude_categories=["Cs"])),
        "caption": TEXT,
        "flags": st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=2),
        "prompt_tokens": st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
        "attempts": st.integers(0, 2**31 - 1),
        "cost_usd": st.none() | st.integers(-(10**18) + 1, 10**18 - 1).map(lambda nano: Decimal(nano).scaleb(-9)),
        "latency_s": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 10).map(float),
        "asked_at": st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive, the values are not
    }
)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_no_value_that_a_row_can_hold_stops_the_sealing(rows: list[dict[str, object]]) -> None:
    """Proves that every row which the ledger took becomes the same row of a part: none can block a run for good."""
    table = parquet.table_of([parquet.encode_row(row) for row in rows], COLUMNS)
    assert table.schema.equals(COLUMNS)
    assert table.select(list(rows[0])).to_pylist() == rows


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """Proves that text which is no UTF-8 cannot stop the keeper, and that a whole pair becomes its character."""
    row = {"id": "a", "caption": "x\ud83dy \ud83d\ude00", "flags": ["\udc00"]}
    (read,) = parquet.table_of([parquet.encode_row(row)], COLUMNS).to_pylist()
    assert read["caption"] == "x\ufffdy \U0001f600"
    assert read["flags"] == ["\ufffd"]


def test_captions_stand_only_where_they_are_asked_for() -> None:
    """Proves that the column of all choices exists with n > 1 only, right after the caption."""
    assert "captions" not in COLUMNS.names
    several = parquet.schema(n=2)
    assert several.names.index("captions") == several.names.index("caption") + 1
    assert [name for name in several.names if name != "captions"] == COLUMNS.names


def test_a_part_is_written_in_named_steps_and_read_back(tmp_path: Path) -> None:
    """Proves the order of the steps, that nothing unfinished stays, and that a part is read as it was written."""
    steps: list[tuple[str, list[str]]] = []
    written = table("a", "b")
    parquet.write_part(
        tmp_path, 7, written, lambda step: steps.append((step, sorted(f.name for f in tmp_path.iterdir())))
    )
    unfinished, final = [".part-00007.parquet.tmp"], ["part-00007.parquet"]
    assert steps == [
        ("tmp-written", unfinished),
        ("tmp-synced", unfinished),
        ("renamed", final),
        ("folder-synced", final),
    ]
    assert parquet.read_part(tmp_path, 7, COLUMNS).equals(written)
    assert parquet.count_rows(tmp_path, 7) == 2
    assert parquet.part_numbers(tmp_path) == [7]


def test_a_part_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    """Proves that a first merge needs no special case."""
    assert parquet.read_part(tmp_path, 0, COLUMNS).equals(COLUMNS.empty_table())
    assert parquet.part_numbers(tmp_path) == []


def test_only_our_unfinished_files_are_removed(tmp_path: Path) -> None:
    """Proves that repair touches nothing but half-written parts."""
    for name in (".part-00001.parquet.tmp", ".other.tmp", "part-00000.parquet", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    parquet.remove_unfinished(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {".other.tmp", "part-00000.parquet", "notes.txt"}


def test_merging_replaces_by_key_and_twice_is_once() -> None:
    """Proves that a row goes to the end with its new values, other prompts stay, and merging is idempotent."""
    old = pa.concat_tables([table("a", "b", "c"), table("b", prompt_name="other")])
    new = table("b", "d", caption="new")
    merged = parquet.merge(old, new)
    assert merged.select(["id", "prompt_name", "caption"]).to_pylist() == [
        {"id": "a", "prompt_name": "caption", "caption": "c"},
        {"id": "c", "prompt_name": "caption", "caption": "c"},
        {"id": "b", "prompt_name": "other", "caption": "c"},
        {"id": "b", "prompt_name": "caption", "caption": "new"},
        {"id": "d", "prompt_name": "caption", "caption": "new"},
    ]
    assert parquet.merge(merged, new).equals(merged)


def test_of_two_rows_with_one_key_the_later_holds() -> None:
    """Proves that a record kept twice before sealing ends as one row."""
    new = pa.concat_tables([table("a", caption="first"), table("b"), table("a", caption="second")])
    merged = parquet.merge(COLUMNS.empty_table(), new)
    assert merged.select(["id", "caption"]).to_pylist() == [
        {"id": "b", "caption": "c"},
        {"id": "a", "caption": "second"},
    ]


@pytest.mark.parametrize("damage", [b"", b"PAR1 but not really PAR1"])
def test_a_damaged_part_is_named(tmp_path: Path, damage: bytes) -> None:
    """Proves that a part which is cut or overwritten ends in one line with its path and the way out."""
    path = tmp_path / parquet.part_name(0)
    path.write_bytes(damage)
    with pytest.raises(ResourceError, match="rebuild") as caught:
        parquet.read_part(tmp_path, 0, COLUMNS)
    assert str(path) in str(caught.value)
    with pytest.raises(ResourceError, match="part-00000"):
        parquet.count_rows(tmp_path, 0)
