"""Manifests: CSV, TSV, JSON Lines, Parquet, lists and standard input."""

import csv
import gzip
import io
import json
import math
import tracemalloc
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import DataUrl, ImageUrl, LocalFile
from pipeline.records import ImageRecord
from pipeline.sources import jsonblocks, open_source, open_sources
from pipeline.sources.blocks import csv_blocks
from pipeline.sources.delimited import read_csv
from pipeline.sources.jsonblocks import jsonl_blocks
from pipeline.sources.jsonlines import read_jsonl
from pipeline.sources.lines import opened
from pipeline.sources.manifest import ManifestSource

SKIP = SourceConfig(skip_bad_rows=True)


def path_of(record: ImageRecord) -> str:
    (image,) = record.images
    assert isinstance(image, LocalFile)
    return image.path


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, config: SourceConfig | None = None) -> list[ImageRecord]:
    source = open_source(path, config or SourceConfig())
    records = list(source.records())
    assert source.check() == len(records)
    return records


def extras(path: Path) -> list[Any]:
    return [None if record.extra is None else json.loads(record.extra) for record in read(path)]


# --- what a row becomes ---


def test_a_csv_row_becomes_a_record(tmp_path: Path) -> None:
    """Proves id, image, path, the other columns as JSON, and the physical line, quoted newlines included."""
    path = write(
        tmp_path / "m.csv",
        '\ufeffimage,id,caption\r\na/1.jpg,one,"a cat,\r\nasleep"\r\n\r\n/abs/2.jpg,two,"a ""dog"""\r\n',
    )
    assert read(path) == [
        ImageRecord("one", (LocalFile("a/1.jpg", f"{tmp_path}/a/1.jpg"),), '{"caption":"a cat,\\r\\nasleep"}', 2),
        ImageRecord("two", (LocalFile("/abs/2.jpg", "/abs/2.jpg"),), '{"caption":"a \\"dog\\""}', 5),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "file_name;text\na.jpg;x, y\n"),
        ("m.csv", "file_name\ttext\na.jpg\tx, y\n"),
        ("m.csv", 'file_name, text\na.jpg, "x, y"\n'),
        ("m.tsv", "file_name\ttext\na.jpg\tx, y\n"),
        ("m.jsonl", '{"file_name": "a.jpg", "text": "x, y"}\n'),
        ("m.ndjson", '\n{"file_name": "a.jpg", "text": "x, y"}'),
    ],
)
def test_dialects(tmp_path: Path, name: str, text: str) -> None:
    """Proves that the separators in use, and a last line without an end, all read alike."""
    [record] = read(write(tmp_path / name, text))
    assert (record.id, record.extra) == ("a.jpg", '{"text":"x, y"}')


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_packed_manifests(tmp_path: Path, suffix: str) -> None:
    """Proves that `.gz` is unpacked as it is read, and that a cut archive is named as such."""
    text = {"csv": "image\na.jpg\n", "jsonl": '{"image":"a.jpg"}\n', "txt": "a.jpg\n"}[suffix]
    packed = gzip.compress(text.encode())
    path = write(tmp_path / f"m.{suffix}.gz", packed)
    assert [record.id for record in read(path)] == ["a.jpg"]
    with pytest.raises(InputError, match="not a gzip file, or cut short"):
        read(write(path, packed[:-6]))


def test_a_list_of_paths(tmp_path: Path) -> None:
    """Proves that comments and blank lines are skipped, and that names which are no UTF-8 can still be opened."""
    path = write(tmp_path / "m.txt", b"# photos\n\na b.jpg\r\n#1.jpg\nhttps://h.example/x.jpg\ncaf\xe9.jpg\n")
    records = read(path)
    assert [(record.id, record.line) for record in records] == [
        ("a b.jpg", 3),
        ("#1.jpg", 4),
        ("https://h.example/x.jpg", 5),
        (r"caf\xe9.jpg", 6),
    ]
    Path(path_of(records[3])).write_bytes(b"here")
    assert (tmp_path / "caf\udce9.jpg").read_bytes() == b"here"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that `-` reads JSON Lines as they come, that a check leaves them alone, and how errors name it."""
    feed = io.TextIOWrapper(io.BytesIO(b'{"url": "http://h.example/1.jpg", "n": 1}\n{"url": 2}\n'))
    monkeypatch.setattr("sys.stdin", feed)
    source = open_source("-", SourceConfig())
    assert (source.name, source.check()) == ("-", None)
    records = source.records()
    assert next(records) == ImageRecord(
        "http://h.example/1.jpg", (ImageUrl("http://h.example/1.jpg", "http://h.example/1.jpg"),), '{"n":1}', 1
    )
    with pytest.raises(InputError, match=r"^standard input:2: the image is a number, not text; fix the line"):
        next(records)


def test_a_stream_among_others_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that joined sources have no known number as soon as one of them is a stream."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"image": "b.jpg"}\n')))
    joined = open_sources([write(tmp_path / "m.txt", "a.jpg\n"), "-"], SourceConfig())
    assert joined.check() is None
    assert [record.id for record in joined.records()] == ["a.jpg", "b.jpg"]


def test_parquet_rows(tmp_path: Path) -> None:
    """Proves that every common Parquet type becomes JSON, by its documented rule."""
    table = pa.table(
        {
            "path": ["a.jpg"],
            "id": [7],
            "when": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC")),
            "day": [date(2026, 11, 20)],
            "price": [Decimal("1.10")],
            "took": [timedelta(seconds=1.5)],
            "score": [math.nan],
            "hash": [b"\x00\xff"],
            "thumb": [b"x" * 2000],
            "box": [{"x": 1, "deep": [b"y" * 2000]}],
            "kind": pa.array(["cat"]).dictionary_encode(),
            "none": pa.nulls(1),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    [record] = read(tmp_path / "m.parquet")
    assert (record.id, path_of(record), record.line) == ("7", f"{tmp_path}/a.jpg", 1)
    assert json.loads(record.extra or "") == {
        "when": "2023-11-14T22:13:20.123456+00:00",
        "day": "2026-11-20",
        "price": "1.10",
        "took": 1.5,
        "score": None,
        "hash": "AP8=",
        "box": {"x": 1, "deep": [None]},
        "kind": "cat",
        "none": None,
        "id": 7,
    }


def test_parquet_over_many_batches(tmp_path: Path) -> None:
    """Proves that rows are numbered through, over batches and row groups."""
    names = [f"{number}.jpg" for number in range(5000)]
    pq.write_table(pa.table({"image": names}), tmp_path / "m.parquet", row_group_size=3000)
    records = read(tmp_path / "m.parquet")
    assert [(record.id, record.line) for record in records] == [(name, number) for number, name in enumerate(names, 1)]
    assert records[0].extra is None


def test_json_beyond_the_fast_reader(tmp_path: Path) -> None:
    """Proves that NaN, large integers and escaped odd names, which Python's own writer makes, are read."""
    line = json.dumps({"image": "caf\udce9.jpg", "score": math.nan, "n": 2**70, "odd": "\udce9"})
    [record] = read(write(tmp_path / "m.jsonl", line + "\n"))
    assert record.id == r"caf\xe9.jpg"
    assert path_of(record) == f"{tmp_path}/caf\udce9.jpg"
    assert json.loads(record.extra or "") == {"score": None, "n": 2**70, "odd": "\udce9"}
    assert (record.extra or "").encode()


def test_whole_numbers_beyond_64_bits_keep_their_digits(tmp_path: Path) -> None:
    """In the id and in the other columns; the fast reader makes fractions of them."""
    line = json.dumps({"image": "a.jpg", "id": 2**64 + 1, "n": {"of": [2**100 + 1]}, "x": 1e30})
    [record] = read(write(tmp_path / "m.jsonl", line + "\n"))
    assert record.id == str(2**64 + 1)
    assert json.loads(record.extra or "") == {"n": {"of": [2**100 + 1]}, "x": 1e30, "id": 2**64 + 1}


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAME = CELL.filter(lambda text: text.strip() != "" and "://" not in text and not text.startswith(("data:", "/")))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAME, CELL, CELL), min_size=1, max_size=8))
def test_csv_and_jsonl_bring_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    """Proves for any text that what the standard library writes is what the records hold."""
    folder = tmp_path_factory.mktemp("m")
    columns = ("image", "caption", "note")
    with (folder / "m.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", *columns), *((n, *row) for n, row in enumerate(rows))])
    lines = [json.dumps({"id": n, **dict(zip(columns, row, strict=True))}) for n, row in enumerate(rows)]
    write(folder / "m.jsonl", "\n".join(lines))
    for name in ("m.csv", "m.jsonl"):
        records = read(folder / name)
        assert [record.id for record in records] == [str(n) for n in range(len(rows))]
        assert [path_of(record) for record in records] == [f"{folder}/{image}" for image, _, _ in rows]
        got = [json.loads(record.extra or "") for record in records]
        ids = [{"id": n} if name == "m.jsonl" else {} for n in range(len(rows))]  # an integer stays one
        assert got == [{"caption": row[1], "note": row[2], **id_} for row, id_ in zip(rows, ids, strict=True)]


# --- columns ---


@pytest.mark.parametrize(
    ("header", "image", "record_id"),
    [
        ("url,image,id", "2", "3"),
        ("TEXT,URL,file", "3", "3"),
        ("image_url,path", "2", "2"),
        ("ID,Image", "2", "1"),
        (",filename", "2", "2"),
    ],
)
def test_columns_by_convention(tmp_path: Path, header: str, image: str, record_id: str) -> None:
    """Proves which column is taken for the image and the id where none is named, in any case."""
    [record] = read(write(tmp_path / "m.csv", f"{header}\n{','.join('123'[: header.count(',') + 1])}\n"))
    assert (record.image, record.id) == (image, record_id)


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_columns_by_name(tmp_path: Path, name: str) -> None:
    """Proves that named columns are taken, and that a missing one is named with the columns there are."""
    row = {"photo": "a.jpg", "key": "k", "image": "b.jpg"}
    if name == "m.csv":
        write(tmp_path / name, f"{','.join(row)}\n{','.join(row.values())}\n")
    elif name == "m.jsonl":
        write(tmp_path / name, json.dumps(row))
    else:
        pq.write_table(pa.table({key: [value] for key, value in row.items()}), tmp_path / name)
    [record] = read(tmp_path / name, SourceConfig(image_column="photo", id_column="key"))
    assert (record.id, record.image, record.extra) == ("k", "a.jpg", '{"image":"b.jpg"}')
    wrong = r"no column 'phot'; columns: photo, key, image; did you mean 'photo'\?"
    with pytest.raises(InputError, match=wrong):
        read(tmp_path / name, SourceConfig(image_column="phot"))
    with pytest.raises(InputError, match=r"no column 'nr'; columns: photo, key, image$"):
        read(tmp_path / name, SourceConfig(id_column="nr"))


def test_no_column_holds_images(tmp_path: Path) -> None:
    """Proves that the error lists the columns, the names that count and the option."""
    message = (
        r"columns: a, b\. The names that count are image, .*image_url, images, document; .*`source\.image_column=NAME`"
    )
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "m.csv", "a,b\n1,2\n"))


# --- rows that are wrong ---

BAD_ROWS = [
    ("m.csv", b"image,n\na.jpg,1\nb.jpg\nc.jpg,3\n", 3, "1 fields, where the header has 2"),
    ("m.csv", b"image,n\na.jpg,1\nb.jpg,2,2\nc.jpg,3\n", 3, "3 fields, where the header has 2"),
    ("m.csv", b'image,n\na.jpg,1\nb.jpg,"2"2\nc.jpg,3\n', 3, "not valid CSV: ',' expected after '\"'"),
    ("m.csv", b"image,n\na.jpg,1\n ,2\nc.jpg,3\n", 3, "the image is empty"),
    ("m.csv", b'image,n\na.jpg,"1\n1"\nb\xe9.jpg,2\nc.jpg,3\n', 4, "not UTF-8 (byte 0xe9 at position 2)"),
    ("m.csv", b"image,n\na.jpg,1\nb.jpg,\0\nc.jpg,3\n", 3, "the line holds NUL bytes"),
    ("m.csv", b"image,id\na.jpg,1\nb.jpg,\nc.jpg,3\n", 3, "the id is empty"),
    ("m.csv", b'image,n\na.jpg,1\nc.jpg,3\nb.jpg,"2', 4, "a quoted field that begins here never closes"),
    ("m.jsonl", b'{"image":"a"}\n{"image":"b"\n{"image":"c"}\n', 2, "not valid JSON: "),
    ("m.jsonl", b'{"image":"a"}\n["b"]\n{"image":"c"}\n', 2, "not a JSON object but list"),
    ("m.jsonl", b'{"image":"a"}\n{"picture":"b"}\n{"image":"c"}\n', 2, "no 'image' in this object"),
    ("m.jsonl", b'{"image":"a"}\n{"image":null}\n{"image":"c"}\n', 2, "the image is missing"),
    ("m.jsonl", b'{"image":"a"}\n{"image":{"bytes":""}}\n{"image":"c"}\n', 2, "the image is an object, not text"),
    ("m.jsonl", b'{"image":"a"}\n{"image":"b\\u0000"}\n{"image":"c"}\n', 2, "the image's name holds a NUL byte"),
    ("m.jsonl", b'{"image":"a"}\n{"image":"b","id":1.5}\n{"image":"c"}\n', 2, "the id is a fraction, neither"),
    ("m.jsonl", b'{"image":"a"}\n{"image":"b\xff"}\n{"image":"c"}\n', 2, "not valid JSON: "),
    ("m.jsonl", b'{"image":"a"}\n' + b"[" * 100_000 + b'\n{"image":"c"}\n', 2, "not valid JSON: "),
    ("m.jsonl", b'{"image":"a"}\n{"image":"c"}\n{"image":"b', 3, "(the last line: the file may be cut short)"),
    ("m.txt", b"a\nb\0\nc\n", 2, "the image's name holds a NUL byte"),
]


@pytest.mark.parametrize(("name", "content", "line", "what"), BAD_ROWS)
def test_a_bad_row_is_named_or_skipped(tmp_path: Path, name: str, content: bytes, line: int, what: str) -> None:
    """Proves that every kind of bad row stops with file and line, in a check too, or is skipped and counted."""
    path = write(tmp_path / name, content)
    for one_pass in (open_source(path, SourceConfig()).check, lambda: read(path)):
        with pytest.raises(InputError) as caught:
            one_pass()
        message = str(caught.value)
        assert message.startswith(f"{path}:{line}: ")
        assert what in message
        assert message.endswith("; fix the line, or skip such rows with `source.skip_bad_rows`")
    source = open_source(path, SKIP)
    assert (source.check(), source.skipped) == (2, 1)
    assert [record.image[0] for record in source.records()] == ["a", "c"]
    assert source.skipped == 1


def test_a_quote_that_swallows_the_rest_is_never_skipped(tmp_path: Path) -> None:
    """Proves that an open quote in the middle stops the run even where bad rows are skipped: rows would be lost."""
    path = write(tmp_path / "m.csv", 'image,n\na.jpg,1\nb.jpg,"2\nc.jpg,3\nd.jpg,4\n')
    with pytest.raises(InputError, match=r"m\.csv:3: a quoted field that begins here never closes.*fix the line$"):
        read(path, SKIP)


def test_bad_parquet_rows(tmp_path: Path) -> None:
    """Proves that null images and text that is no UTF-8 are named by row, or skipped."""
    broken = pa.array([b"x", b"\xff", b"y"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": ["a", "b", None], "text": broken}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet: row 2: text that is not UTF-8; fix the row, or skip"):
        list(open_source(tmp_path / "m.parquet", SourceConfig()).records())
    source = open_source(tmp_path / "m.parquet", SKIP)
    assert [record.id for record in source.records()] == ["a"]
    assert source.skipped == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"", "the file is empty"),
        ("m.csv", b"\n \n", "the file is empty"),
        ("m.csv", b"image,n\n", "no rows$"),
        ("m.csv", b'image,"n\n', "1: the header cannot be read"),
        ("m.csv", b"image,n\xe9\n", "1: not UTF-8"),
        ("m.csv", b"image,n,n\na,1,2\n", "the column 'n' stands twice"),
        ("m.csv", "image\na.jpg\n".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        ("m.jsonl", b"\n\n", "no rows$"),
        ("m.txt", b"# nothing\n", "no rows$"),
        ("m.parquet", b"PAR1 and then nothing", "not a Parquet file, or cut short"),
        ("m.parquet", b"", "not a Parquet file, or cut short"),
    ],
)
def test_manifests_without_use(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Proves that empty, broken and foreign files stop before anything is sent, even where rows are skipped."""
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        open_source(path, SKIP).check()


def test_a_cut_parquet_file(tmp_path: Path) -> None:
    """Proves that a file whose end is missing, and one with damaged pages, are both named."""
    names = [f"{number * 7919 % 100_003}.jpg" for number in range(20_000)]
    pq.write_table(pa.table({"image": names}), tmp_path / "m.parquet", compression="zstd")
    whole = (tmp_path / "m.parquet").read_bytes()
    with pytest.raises(InputError, match="cut short"):
        read(write(tmp_path / "cut.parquet", whole[: len(whole) // 2]))
    damaged = whole[:2000] + bytes(20_000) + whole[22_000:]
    with pytest.raises(InputError, match="damaged after row"):
        read(write(tmp_path / "damaged.parquet", damaged))


def test_nothing_left_but_bad_rows(tmp_path: Path) -> None:
    """Proves that a manifest with every row skipped is an error, and counts them."""
    with pytest.raises(InputError, match="no rows that can be used; 2 were skipped as bad"):
        open_source(write(tmp_path / "m.jsonl", "x\ny\n"), SKIP).check()


def test_a_line_without_end_stays_out_of_memory(tmp_path: Path) -> None:
    """Proves that a file which is one endless line is refused after 32 MiB."""
    path = tmp_path / "m.txt"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match=r"m\.txt:1: the line is longer than 32 MiB"):
        open_source(path, SourceConfig()).check()


# --- ids ---


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("m.csv", "id,image\na,1\nb,2\na,3\n", "lines 2 and 4"),
        ("m.jsonl", '{"image":"a"}\n{"image":"b","id":"a"}\n', "lines 1 and 2"),
        ("m.txt", "a\n\na\na\nb\nb\n", r"lines 1 and 3 \(and 1 more id repeats\)"),
    ],
)
def test_duplicate_ids_are_named_with_both_lines(tmp_path: Path, name: str, content: str, lines: str) -> None:
    """Proves that a check finds an id that stands twice, and names where."""
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=rf"{name}: id 'a' on {lines}; remove one"):
        open_source(path, SourceConfig()).check()


def test_duplicate_ids_in_parquet_and_across_sources(tmp_path: Path) -> None:
    """Proves that rows are named where there are no lines, and both files where there are two."""
    pq.write_table(pa.table({"image": ["a", "b", "a"]}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match="id 'a' on rows 1 and 3"):
        open_source(tmp_path / "m.parquet", SourceConfig()).check()
    one, two = write(tmp_path / "1.txt", "x\nb\n"), write(tmp_path / "2.txt", "b\n")
    with pytest.raises(InputError, match=r"id 'b' stands in .*1\.txt \(line 2\) and in .*2\.txt \(line 1\)"):
        open_sources([one, two], SourceConfig()).check()


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://b.s3.amazonaws.com/a.jpg?X-Amz-Date=1&X-Amz-Signature=f", "https://b.s3.amazonaws.com/a.jpg"),
        ("https://h.example/a.jpg?w=2&Expires=1&Signature=x&Key-Pair-Id=k#f", "https://h.example/a.jpg?w=2#f"),
        ("https://a.blob.core.windows.net/a.jpg?sv=1&se=2&sr=b&sp=r&sig=x", "https://a.blob.core.windows.net/a.jpg"),
        ("https://h.example/a?sp=1&st=2", "https://h.example/a?sp=1&st=2"),
        ("https://h.example/a?alt=media&token=x", "https://h.example/a?alt=media"),
        ("https://user:pw@h.example/a@b.jpg", "https://h.example/a@b.jpg"),
        ("s3://bucket/a.jpg", "s3://bucket/a.jpg"),
    ],
)
def test_addresses_lose_their_signature(tmp_path: Path, url: str, public: str) -> None:
    """Proves that a signed address keeps its id from night to night, and that no signature reaches a row."""
    [record] = read(write(tmp_path / "m.txt", url + "\n"))
    assert (record.id, record.image, record.images) == (public, public, (ImageUrl(public, url),))


def test_data_urls_and_file_urls(tmp_path: Path) -> None:
    """Proves that a `data:` URL is named by a digest, and that a `file://` URL becomes a path."""
    embedded = "data:image/png;base64,AAAA"
    path = write(tmp_path / "m.txt", f"{embedded}\nfile:///a/b%20c.jpg\nfile://other/x.jpg\nC:\\x.jpg\n")
    first, second, third, fourth = read(path)
    assert first.id == first.image
    assert first.id.startswith("data:image/png;blake2b,")
    assert first.images == (DataUrl(first.id, embedded),)
    assert (second.id, path_of(second)) == ("file:///a/b%20c.jpg", "/a/b c.jpg")
    assert third.images == (ImageUrl("file://other/x.jpg", "file://other/x.jpg"),)
    assert path_of(fourth) == f"{tmp_path}/C:\\x.jpg"


# --- memory ---


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_manifest(tmp_path: Path, suffix: str) -> None:
    """Proves that 50,000 rows are checked in 16 bytes a row, and read in no more than a fixed amount."""
    rows, path = 50_000, tmp_path / f"m.{suffix}"
    names = [f"shard/{number:07d}.jpg" for number in range(rows)]
    if suffix == "parquet":
        pq.write_table(pa.table({"image": names, "caption": names}), path)
    elif suffix == "csv":
        write(path, "image,caption\n" + "".join(f"{name},{name}\n" for name in names))
    else:
        write(path, "".join(f'{{"image":"{name}","caption":"{name}"}}\n' for name in names))
    del names
    source = open_source(path, SourceConfig())
    fixed_bytes = 4 * 1024 * 1024
    tracemalloc.start()
    try:
        assert source.check() == rows
        assert tracemalloc.get_traced_memory()[1] < fixed_bytes + 16 * rows
        tracemalloc.reset_peak()
        assert sum(1 for _ in source.records()) == rows
        assert tracemalloc.get_traced_memory()[1] < fixed_bytes
    finally:
        tracemalloc.stop()


PLAIN_CELL = st.text(st.characters(codec="utf-8", exclude_characters='"\0\r\n,;\t'), min_size=1, max_size=12)
ODD_CELL = st.text(st.sampled_from('ab/:. ,"é\n\r'), max_size=6)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(PLAIN_CELL, PLAIN_CELL, PLAIN_CELL), max_size=12),
    odd=st.none() | st.tuples(st.integers(0, 12), ODD_CELL),
    ending=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_blocks_and_rows_say_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    odd: tuple[int, str] | None,
    ending: str,
    last: bool,  # noqa: FBT001 - drawn
) -> None:
    """What Arrow reads in blocks is, record by record or to the word of the error, what is read row by row."""
    lines = ["image,id,note", *(",".join(row) for row in rows)]
    if odd is not None:
        lines.insert(min(odd[0], len(lines)), odd[1])
    path = tmp_path_factory.mktemp("m") / "m.csv"
    path.write_bytes((ending.join(lines) + (ending if last else "")).encode())
    config = SourceConfig()
    quick = ManifestSource(str(path), config, read_csv, opened, name="m.csv", blocks=csv_blocks)
    slow = ManifestSource(str(path), config, read_csv, opened, name="m.csv")
    assert _results(quick) == _results(slow)


JSON_VALUE = st.sampled_from(
    [
        "a.jpg",
        "b/é.png",
        "https://h.example/a?token=x",
        "data:,x",
        "[1]",
        "",
        " ",
        "\0",
        7,
        2**70,
        None,
        True,
        1.5,
        ["a.jpg"],
    ]
)
TWO_ROWS = '{"image": "x.jpg"},{"image": "y.jpg"}'
ODD_LINES = st.one_of(
    st.dictionaries(st.sampled_from(["image", "id", "note"]), JSON_VALUE).map(lambda row: [json.dumps(row)]),
    st.sampled_from(
        [
            # What is no row by itself, and would make rows together.
            ['{"image": "}', '{", "id": "z"}', TWO_ROWS],
            ['{"image": "q", "n": [{}', "{}]}", TWO_ROWS],
            ['{"image": "r"', '"id": "s"}', TWO_ROWS],
            ['{"image": "t"}, 5', '{"image": "w"', "}"],
            *[["5"], [""], [" "], ["\r"], [" {}"], ["{}"], [TWO_ROWS]],
            ['{"image": "a", "image": "b"}', '{"image": "u", "n": NaN}', '{"image": "\\ud800.jpg"}'],
            ['{"image": "v", "n": {"m": {}}}'],
        ]
    ),
)


@settings(max_examples=300)
@given(
    even=st.sampled_from(["%d.jpg", "https://h.example/%d?sig=x", "é%d.png"]),
    ids=st.sampled_from([{}, {"id": "i%d"}, {"ID": "j%d"}]),
    numbered=st.booleans(),
    odd=st.lists(st.tuples(st.integers(0, 8), ODD_LINES), max_size=2),
    ending=st.sampled_from(["\n", "\r\n"]),
    config=st.sampled_from([SourceConfig(), SourceConfig(id_column="note"), SourceConfig(skip_bad_rows=True)]),
    block_bytes=st.sampled_from([1, 40, 150, 1 << 16]),
    last=st.booleans(),
)
def test_json_lines_in_blocks_and_one_by_one(
    tmp_path_factory: pytest.TempPathFactory,
    even: str,
    ids: dict[str, str],
    numbered: bool,  # noqa: FBT001 - drawn
    odd: list[tuple[int, list[str]]],
    ending: str,
    config: SourceConfig,
    block_bytes: int,
    last: bool,  # noqa: FBT001 - drawn
) -> None:
    """Wherever blocks begin, and whatever stands among even rows: the same records, or the same error."""
    rows = [
        {"image": even % row, "note": row} | {key: row if numbered else text % row for key, text in ids.items()}
        for row in range(8)
    ]
    lines = [json.dumps(row) for row in rows]
    for at, between in odd:
        lines[at:at] = between
    path = tmp_path_factory.mktemp("m") / "m.jsonl"
    path.write_bytes((ending.join(lines) + (ending if last else "")).encode())
    quick = ManifestSource(str(path), config, read_jsonl, opened, name="m.jsonl", blocks=jsonl_blocks)
    slow = ManifestSource(str(path), config, read_jsonl, opened, name="m.jsonl")
    with patch.object(jsonblocks, "BLOCK_BYTES", block_bytes):
        assert _results(quick) == _results(slow)


def _results(source: ManifestSource) -> object:
    try:
        return source.check(), list(source.records())
    except InputError as error:
        return str(error)


# --- what a run could not read ---


@pytest.mark.parametrize("levels", [101, 300, 900, 1020, 100_000])
@pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
def test_deep_rows_are_refused_by_the_check(tmp_path: Path, suffix: str, levels: int) -> None:
    """A row nested deeper than 100 levels ends the check with its line, so that nothing is paid for before it."""
    deep = "[" * (levels - 1) + "]" * (levels - 1)
    path = write(tmp_path / f"m.{suffix}", f'{{"image": "a.jpg"}}\n{{"image": "b.jpg", "x": {deep}}}\n')
    with pytest.raises(InputError, match=rf"m\.{suffix}:2: (nested deeper than 100 levels|not valid JSON)"):
        open_source(path).check()
    assert [record.id for record in read(path, SKIP)] == ["a.jpg"]


def test_the_deepest_row_that_is_read(tmp_path: Path) -> None:
    """Of 100 levels; brackets inside of texts are none."""
    path = write(tmp_path / "m.jsonl", json.dumps({"image": "a.jpg", "x": json.loads("[" * 99 + "]" * 99)}) + "\n")
    assert len(read(path)) == 1
    path = write(tmp_path / "m.jsonl", json.dumps({"image": "a.jpg", "x": "[" * 5000}) + "\n")
    assert extras(path) == [{"x": "[" * 5000}]


def test_a_deep_parquet_column_is_refused(tmp_path: Path) -> None:
    """Arrow's reader has a limit of its own, which holds before any row is read."""
    kind = pa.int64()
    for _ in range(101):
        kind = pa.list_(kind)
    pq.write_table(pa.table({"image": ["a.jpg"], "deep": pa.array([None], kind)}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet: not a Parquet file.*too deeply nested"):
        open_source(tmp_path / "m.parquet").check()


@pytest.mark.parametrize("twice", ["image", "x"])
def test_parquet_columns_that_stand_twice(tmp_path: Path, twice: str) -> None:
    """As in a CSV: one line that names the column."""
    table = pa.table([pa.array(["a.jpg"]), pa.array(["b"]), pa.array(["c"])], names=["image", twice, "x"])
    pq.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(InputError, match=rf"m\.parquet: the column '{twice}' stands twice; rename one"):
        open_source(tmp_path / "m.parquet").check()


def test_the_last_of_a_key_that_stands_twice_counts(tmp_path: Path) -> None:
    """As every parser of JSON has it, in the check and in the run alike."""
    path = write(tmp_path / "m.jsonl", '{"image": "a.jpg", "image": "b.jpg", "x": 1, "x": 2}\n')
    assert [(record.id, record.extra) for record in read(path)] == [("b.jpg", '{"x":2}')]


FAR = 2**62
NUMBERS = pa.int64()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array([FAR], NUMBERS).cast(pa.timestamp("ms")), str(FAR)),
        (pa.array([2**58], NUMBERS).cast(pa.timestamp("us", "UTC")), "11103-08-29 17:22:31.711744Z"),
        (pa.array([0], NUMBERS).cast(pa.timestamp("us", "No/Where")), "0"),
        (pa.array([FAR], NUMBERS).cast(pa.duration("s")), str(FAR)),
        (pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), str(2**31 - 1)),
        (pa.array([[FAR, 0]], pa.list_(NUMBERS)).cast(pa.list_(pa.timestamp("ms"))), [str(FAR), "1970-01-01T00:00:00"]),
        (
            pa.array([{"t": FAR, "u": "v"}], pa.struct({"t": NUMBERS, "u": pa.string()})).cast(
                pa.struct({"t": pa.timestamp("ms"), "u": pa.string()})
            ),
            {"t": str(FAR), "u": "v"},
        ),
        (pa.array([FAR], NUMBERS).cast(pa.timestamp("ms")).dictionary_encode(), str(FAR)),
    ],
)
def test_times_beyond_python(tmp_path: Path, column: Any, value: object) -> None:
    """A time beyond the years 1 to 9999, or of a zone that is not known, is text; its row is read like any other."""
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"image": ["a.jpg"], "t": column}), path)
    assert extras(path) == [{"t": value}]


def test_text_in_other_columns_is_checked_too(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 in a column that is neither image nor id are found by the check, with their line."""
    for end in (b"\xff\n", b"\xe1"):  # the last one is the beginning of a character
        path = write(tmp_path / "m.csv", b"image,id,x\na.jpg,1,y\nb.jpg,2," + end)
        with pytest.raises(InputError, match=r"m\.csv:3: not UTF-8"):
            open_source(path).check()
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"image": ["a.jpg"], "x": bad}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet: row 1: text that is not UTF-8"):
        open_source(tmp_path / "m.parquet").check()


def test_damage_in_other_columns_is_found_by_the_check(tmp_path: Path) -> None:
    """A page that is broken in a column which only `record` shows ends the check, not a run that has paid."""
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"image": ["a.jpg"] * 9, "x": ["needle-in-a-page"] * 9, "id": [*map(str, range(9))]}), path)
    write(path, path.read_bytes().replace(b"needle", b"\xff\xff\xff\xff\xff\xff", 1))
    with pytest.raises(InputError, match=r"m\.parquet: "):
        open_source(path).check()
