"""Rows to Parquet parts and back."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ResourceError
from pipeline.records import record_key
from pipeline.store import parquet, part_repair, rows
from pipeline.store.rows import encode_row, table_of, tables_of
from pipeline.store.schemas import schema

COLUMNS = schema()


def table(*ids: str, caption: str | None = "c", prompt_name: str = "caption") -> pa.Table:
    rows = [{"id": name, "prompt_name": prompt_name, "caption": caption} for name in ids]
    return table_of([encode_row(row) for row in rows], COLUMNS)


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
    }
    (read,) = table_of([encode_row(row)], COLUMNS).to_pylist()
    told = {name: value for name, value in read.items() if value is not None}
    assert told == row
    assert read["answered_at"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_name_that_is_no_column_is_an_error() -> None:
    """Proves that a row with an unknown name does not lose it silently: the error names it."""
    with pytest.raises(ValueError, match="'no such column', which is no column"):
        table_of([encode_row({"id": "a", "no such column": 1})], COLUMNS)


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
def test_no_value_that_a_row_can_hold_stops_the_sealing(given_rows: list[dict[str, object]]) -> None:
    """Proves that every row which the ledger took becomes the same row of a part: none can block a run for good."""
    table = table_of([encode_row(row) for row in given_rows], COLUMNS)
    assert table.schema.equals(COLUMNS)
    assert table.select(list(given_rows[0])).to_pylist() == given_rows


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """Proves that text which is no UTF-8 cannot stop the writer, and that a whole pair becomes its character."""
    row = {"id": "a", "caption": "x\ud83dy \ud83d\ude00", "flags": ["\udc00"]}
    (read,) = table_of([encode_row(row)], COLUMNS).to_pylist()
    assert read["caption"] == "x\ufffdy \U0001f600"
    assert read["flags"] == ["\ufffd"]


def test_captions_stand_only_where_they_are_asked_for() -> None:
    """Proves that the column of all choices exists with n > 1 only, right after the caption."""
    assert "captions" not in COLUMNS.names
    several = schema(choices=2)
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
    assert pq.read_table(tmp_path / "part-00007.parquet").equals(written)
    assert parquet.count_rows(tmp_path, 7) == 2
    assert parquet.part_numbers(tmp_path) == [7]


def test_a_part_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    """Proves that a first merge needs no special case."""
    assert list(parquet.rows_without(tmp_path, 0, COLUMNS, {b"k"})) == []
    assert list(parquet.rows_of(tmp_path, 0, COLUMNS, {b"k"})) == []
    assert parquet.part_numbers(tmp_path) == []


def test_only_our_unfinished_files_are_removed(tmp_path: Path) -> None:
    """Proves that repair touches nothing but half-written parts."""
    for name in (".part-00001.parquet.tmp", ".other.tmp", "part-00000.parquet", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    parquet.remove_unfinished(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {".other.tmp", "part-00000.parquet", "notes.txt"}


def groups_of(path: Path) -> list[int]:
    """The rows of each row group."""
    footer = pq.read_metadata(path)
    return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]


def merge(folder: Path, old: pa.Table, new: pa.Table) -> list[tuple[str, str, str]]:
    keys = {record_key(row["id"], row["prompt_name"]) for row in new.to_pylist()}
    parquet.write_part(folder, 0, old)
    tables = chain(parquet.rows_without(folder, 0, COLUMNS, keys), [new])
    assert parquet.write_tables(folder, 0, tables, COLUMNS) == parquet.count_rows(folder, 0)
    merged = pq.read_table(folder / "part-00000.parquet")
    assert merged.schema.equals(COLUMNS, check_metadata=False)
    return list(zip(*(merged[name].to_pylist() for name in ("id", "prompt_name", "caption")), strict=True))


def test_merging_replaces_by_key_and_twice_is_once(tmp_path: Path) -> None:
    """Proves that a row goes to the end with its new values, other prompts stay, and merging is idempotent."""
    old = pa.concat_tables([table("a", "b", "c"), table("b", prompt_name="other")])
    new = table("b", "d", caption="new")
    merged = merge(tmp_path, old, new)
    assert merged == [
        ("a", "caption", "c"),
        ("c", "caption", "c"),
        ("b", "other", "c"),
        ("b", "caption", "new"),
        ("d", "caption", "new"),
    ]
    assert merge(tmp_path, pq.read_table(tmp_path / "part-00000.parquet").cast(COLUMNS), new) == merged


def test_row_groups_are_bounded_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that tables of any sizes become full row groups and a rest, none empty, also after rows were replaced."""
    monkeypatch.setattr(parquet, "ROWS_A_GROUP", 4)
    ids = [f"{number:02}" for number in range(11)]
    parquet.write_tables(
        tmp_path, 0, [table(*ids[:1]), COLUMNS.empty_table(), table(*ids[1:9]), table(*ids[9:])], COLUMNS
    )
    assert groups_of(tmp_path / "part-00000.parquet") == [4, 4, 3]
    again = {record_key(name, "caption") for name in ids[2:5]}
    left = parquet.rows_without(tmp_path, 0, COLUMNS, again)
    assert parquet.write_tables(tmp_path, 0, chain(left, [table(*ids[2:5])]), COLUMNS) == 11
    assert groups_of(tmp_path / "part-00000.parquet") == [4, 4, 3]
    read = pq.read_table(tmp_path / "part-00000.parquet")["id"].to_pylist()
    assert read == ids[:2] + ids[5:] + ids[2:5]
    part_repair.drop_rows(tmp_path, 0, {0, 10})
    assert pq.read_table(tmp_path / "part-00000.parquet")["id"].to_pylist() == read[1:10]
    found = parquet.rows_of(tmp_path, 0, COLUMNS, {record_key("03", "caption"), record_key("99", "caption")})
    assert [row["id"] for row in found] == ["03"]


def test_row_groups_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that rows of 1 KB end a row group of 3 KB, that a larger row is a group alone, and that JSON becomes
    tables by its bytes, so that no block of 2 GiB can come about.
    """
    monkeypatch.setattr(parquet, "GROUP_BYTES", 3_000)
    monkeypatch.setattr(rows, "BATCH_BYTES", 2_000)
    sizes = [1_000] * 6 + [9_000, 10]
    encoded = [encode_row({"id": str(at), "prompt_name": "p", "caption": "x" * n}) for at, n in enumerate(sizes)]
    tables = list(tables_of(encoded, COLUMNS))
    assert [one.num_rows for one in tables] == [2, 2, 2, 1, 1]
    parquet.write_tables(tmp_path, 0, tables, COLUMNS)
    assert groups_of(tmp_path / "part-00000.parquet") == [4, 3, 1]
    assert list(map(len, pq.read_table(tmp_path / "part-00000.parquet")["caption"].to_pylist())) == sizes


def test_a_part_of_one_row_group_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that a part of one row group, which another program wrote, is read some rows at a time, by their bytes."""
    pq.write_table(
        table(*map(str, range(50)), caption="x" * 2_000), tmp_path / "part-00000.parquet", use_dictionary=False
    )
    monkeypatch.setattr(parquet, "GROUP_BYTES", 20_000)
    sizes = [one.num_rows for one in parquet.batches(tmp_path, COLUMNS)]
    assert (sum(sizes), max(sizes) <= 10) == (50, True)


def test_a_flipped_byte_is_found_by_its_checksum(tmp_path: Path) -> None:
    """Proves that no byte of a page can change unseen: any reading of the part says so, and names it."""
    parquet.write_part(tmp_path, 0, table(*map(str, range(100))))
    path = tmp_path / "part-00000.parquet"
    chunk = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    assert parquet.count_rows(tmp_path, 0) == 100
    with pytest.raises(ResourceError, match="part-00000"):
        list(parquet.keys_of(tmp_path, 0))
    with pytest.raises(ResourceError, match="part-00000"):
        list(parquet.rows_without(tmp_path, 0, COLUMNS, ()))


@pytest.mark.parametrize("damage", [b"", b"PAR1 but not really PAR1"])
def test_a_damaged_part_is_named(tmp_path: Path, damage: bytes) -> None:
    """Proves that a part which is cut or overwritten ends in one line with its path and the way out."""
    path = tmp_path / parquet.part_name(0)
    path.write_bytes(damage)
    with pytest.raises(ResourceError, match="rebuild") as caught:
        list(parquet.batches(tmp_path, COLUMNS))
    assert str(path) in str(caught.value)
    with pytest.raises(ResourceError, match="part-00000"):
        parquet.count_rows(tmp_path, 0)
