"""WebDataset shards: tars of every writer, patterns of them, and tars that are damaged or odd."""

import gzip
import io
import json
import random
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.sections import SourceConfig
from pipeline.errors import ErrorKind, InputError
from pipeline.files import record_stamp
from pipeline.images.locate import read_image
from pipeline.images.probe import ImageSize
from pipeline.images.sizes import sizes_of
from pipeline.locations import EmbeddedImage, TarMember
from pipeline.records import Failure, ImageRecord
from pipeline.sources import gunzip, open_source, open_sources, passed_over
from pipeline.sources.gunzip import GzipStream
from pipeline.sources.tarfiles import DamagedError, PlainStream, members
from tests.containers import SMALL, Files, tar_of
from tests.pdfs import pdf

SKIP = SourceConfig(skip_bad_rows=True)


def write(path: Path, files: Files) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = tar_of(files)
    path.write_bytes(data if path.suffix == ".tar" else gzip.compress(data))
    return path


def read(spec: Path | str, config: SourceConfig | None = None) -> list[ImageRecord]:
    source = open_source(spec, config)
    count = source.check()
    records = list(source.records())
    assert count == len(records)
    return records


def bytes_of(record: ImageRecord) -> bytes | Failure:
    return read_image(record.images[0], 1 << 20)


def extra(record: ImageRecord) -> Any:
    return None if record.extra is None else json.loads(record.extra)


# --- what a member becomes ---


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_members_beside_an_image_are_columns(tmp_path: Path, suffix: str) -> None:
    """The id is `shard/key`; fields of `.json`, and `.txt` and `.cls` by name, are the record; the rest is left out."""
    files = [
        ("000.jpg", b"one"),
        ("000.txt", b"a cat\n"),
        ("000.cls", b"7"),
        ("000.json", b'{"url": "http://h.example/a", "score": NaN, "tags": ["x"]}'),
        ("000.npy", b"\x93NUMPY\0"),
        ("000.more.json", b"[1]"),
        ("000.html", b"x" * 3_000_000),
        ("a.b/c.d/001.PNG", b"two"),
        ("./a/002.seg.webp", b"three"),
        ("003.txt", b"no image"),
        ("README", b""),
        (".hidden.jpg", b"h"),
        ("__meta__.jpg__", b"m"),
    ]
    first, second, third = read(write(tmp_path / f"data-0{suffix}", files))
    assert [record.id for record in (first, second, third)] == ["data-0/000", "data-0/a.b/c.d/001", "data-0/a/002"]
    assert extra(first) == {
        "txt": "a cat",
        "cls": 7,
        "url": "http://h.example/a",
        "score": None,
        "tags": ["x"],
        "more.json": [1],
    }
    assert (first.image, extra(second)) == (f"{tmp_path}/data-0{suffix}/000.jpg", None)
    assert [bytes_of(record) for record in (third, second, first)] == [b"three", b"two", b"one"]
    assert all(record.held_bytes < 1000 for record in (first, second, third))
    assert isinstance(first.images[0], TarMember if suffix == ".tar" else EmbeddedImage)
    assert record_stamp(first) is not None


@pytest.mark.parametrize(
    ("files", "config", "found"),
    [
        ([("k.png", b"p"), ("k.jpg", b"j")], {}, b"j"),
        ([("k.png", b"p"), ("k.seg.jpg", b"s")], {}, b"p"),
        ([("k.png", b"p"), ("k.seg.jpg", b"s")], {"image_column": "seg.jpg"}, b"s"),
        ([("k.tga", b"t"), ("k.jpg", b"j")], {"extensions": [".tga"]}, b"t"),
        ([("k.image", b"i"), ("k.jpg", b"j")], {"image_column": "image"}, b"i"),
        (
            [("k.1.jpg", b"1"), ("k.2.jpg", b"2")],
            {},
            "several images (1.jpg, 2.jpg), since a key ends at the",
        ),
        ([("k.jpg", b"j")], {"image_column": "png"}, "no member 'png' (`source.image_column`), only jpg"),
        ([("k.jpg", b"j"), ("k.jpg", b"k")], {}, "two of its members have one name"),
        ([("k.jpg", b"j"), *((f"k.{n}", b"") for n in range(1000))], {}, "more than 1,000 members have this key"),
        ([("k.jpg", b"j"), ("k.json", b"{")], {}, "'json' is not valid JSON: "),
        ([("k.jpg", b"j"), ("k.json", b"[" * 200 + b"]" * 200)], {}, "nested deeper than 100 levels"),
        ([("k.jpg", b"j"), ("k.txt", b"caf\xe9")], {}, "'txt' is not UTF-8"),
        ([("k.jpg", b"j"), ("k.txt", b"\1" * 90_000)], {"max_record_kb": 100}, "source.max_record_kb is 100"),
        ([("k.jpg", b"j"), ("k.json", b'{"n": 1.5}')], {"id_column": "n"}, "the id is a fraction"),
    ],
)
def test_which_image_and_odd_records(tmp_path: Path, files: Files, config: dict[str, Any], found: bytes | str) -> None:
    """The image of several, and every kind of record that cannot be used: named by shard, key and byte, or skipped."""
    path = write(tmp_path / "s.tar", [*files, ("last.image", b"l"), ("last.jpg", b"l"), ("last.json", b'{"n": 1}')])
    settings = SourceConfig(**config)
    if isinstance(found, bytes):
        assert bytes_of(next(iter(open_source(path, settings).records()))) == found
        return
    with pytest.raises(InputError) as caught:
        open_source(path, settings).check()
    assert str(caught.value).startswith(f"{path}: the record 'k' (byte 512): ")
    assert found in str(caught.value)
    assert str(caught.value).endswith("; mend the shard, or skip such records with `source.skip_bad_rows`")
    if "image_column" not in config:
        source = open_source(path, settings.model_copy(update={"skip_bad_rows": True}))
        assert (source.check(), source.skipped) == (1, 1)


def test_ids_by_a_column(tmp_path: Path) -> None:
    """`source.id_column` takes the id from the members; one that stands twice is named with both members."""
    files = [(f"{n}.{kind}", data) for n in (1, 2) for kind, data in (("jpg", b"i"), ("json", b'{"uid": "u%d"}' % n))]
    path = write(tmp_path / "s.tar", files)
    assert [record.id for record in read(path, SourceConfig(id_column="uid"))] == ["u1", "u2"]
    path = write(tmp_path / "s.tar", [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3")])
    with pytest.raises(InputError, match=r"id 's/a' stands for .*/a\.jpg' \(byte 512\) and for .* \(byte 2,560\)"):
        open_source(path).check()
    with pytest.raises(InputError, match=r"`source.group_by` names a column of a manifest"):
        open_source(path, SourceConfig(group_by="doc"))


# --- tars ---

ODD = ["a/" * 70 + "long.jpg", "é" * 90 + ".jpg", "../up.jpg", "/abs.jpg", "caf\udce9.jpg", "x" * 99 + ".jpg"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_every_format(tmp_path: Path, form: int) -> None:
    """Names of any length, links, devices and folders: the plain files are those that `tarfile` finds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for number, name in enumerate(ODD):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = number * 300, number + (0.5 if form == tarfile.PAX_FORMAT else 0)
            if form == tarfile.USTAR_FORMAT and name[0] in "éx":
                continue  # it has no place for this name
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
                other = tarfile.TarInfo(f"{number}.link.jpg")
                other.type, other.linkname = kind, "/etc/passwd"
                tar.addfile(other)
    path = tmp_path / "s.tar"
    path.write_bytes(buffer.getvalue())
    with tarfile.open(path) as tar:
        expected = [(one.name, one.offset_data, one.size) for one in tar if one.isreg()]
    with path.open("rb") as file:
        assert list(members(PlainStream(file.fileno()))) == expected
    records = read(path)
    assert len(records) == len(expected)
    assert [record.id for record in records if "up" in record.id or "abs" in record.id] == ["s/../up", "s/abs"]
    assert all(record.id.encode() for record in records)
    assert [bytes_of(record) for record in records if "up" in record.id] == [b"\2" * 600]


def sparse_tar() -> bytes:
    """A sparse file as GNU tar writes it, with a map that goes on in a second block."""
    header = bytearray(tar_of([("hole.jpg", b"d" * 100)])[:512])
    header[156:157], header[482] = b"S", 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(512) + b"d" * 100 + bytes(412)


def test_sparse_files_are_passed_over(tmp_path: Path) -> None:
    """Of both formats; what follows them is read."""
    pax = io.BytesIO()
    with tarfile.open(fileobj=pax, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("hole.jpg")
        info.size, info.pax_headers = 100, {"GNU.sparse.major": "1", "GNU.sparse.name": "hole.jpg"}
        tar.addfile(info, io.BytesIO(bytes(100)))
    for start in (sparse_tar(), pax.getvalue()[: 4 * 512]):
        (tmp_path / "s.tar").write_bytes(start + tar_of([("a.jpg", b"a")]))
        assert [record.id for record in read(tmp_path / "s.tar")] == ["s/a"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_damaged_tars_are_typed(tmp_path: Path, form: int) -> None:
    """Cut anywhere, or with any bytes changed: members, or an error that names the byte; the same inside of gzip."""
    rng = random.Random(form)
    whole = tar_of([(f"{n}{'x' * 120 * (n % 2)}.jpg", rng.randbytes(n * 200)) for n in range(6)], form)
    packed = gzip.compress(whole)
    path = tmp_path / "s"
    offsets = []
    for number in range(300):
        data = bytearray(packed if number % 3 == 0 else whole)
        if number % 2:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randrange(4) if data else 0):
            data[rng.randrange(len(data))] = rng.choice([0, 255, 57, rng.randrange(256)])
        path.write_bytes(data)
        with path.open("rb") as file:
            stream = GzipStream(str(path)) if number % 3 == 0 else PlainStream(file.fileno())
            try:
                assert len(list(members(stream))) <= 12
            except DamagedError as error:
                offsets.append(error.offset)
    assert len(offsets) > 100
    assert all(0 <= offset <= len(whole) for offset in offsets)


def joined(parts: list[bytes], suffix: str, between: bytes) -> bytes:
    """What `cat` makes of tars, packed or not, with some bytes behind each."""
    return b"".join((part if suffix == ".tar" else gzip.compress(part)) + between for part in parts)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_tars_behind_each_other(tmp_path: Path, suffix: str) -> None:
    """`cat x1.tar x2.tar` holds the members of both; zeros at the end are none, and other bytes there are damage."""
    parts = [tar_of([(f"{key}.jpg", key.encode()), (f"{key}.txt", b"t")]) for key in "abc"]
    parts.insert(1, tar_of([]))
    path = tmp_path / f"s{suffix}"
    for between in (b"", bytes(512)):
        path.write_bytes(joined(parts, suffix, between))
        records = read(path)
        assert [record.id for record in records] == ["s/a", "s/b", "s/c"]
        assert [bytes_of(record) for record in records] == [b"a", b"b", b"c"]
    path.write_bytes(joined(parts, suffix, b"") + bytes(100))
    assert len(read(path)) == 3
    path.write_bytes(joined(parts, suffix, b"") + b"no header" * 100)
    with pytest.raises(InputError, match=r"damaged at byte [\d,]+: (no header of a tar|.* other data follow it)"):
        open_source(path).check()
    path.write_bytes(joined([tar_of([])], suffix, b""))
    with pytest.raises(InputError, match=r"no images in it \(no files\)"):
        open_source(path).check()


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_what_is_passed_over_is_counted(tmp_path: Path, suffix: str) -> None:
    """Links, devices, sparse files and keys without an image, by kind over all shards; folders and hidden names not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"?")
        for number, kind in enumerate(kinds):
            other = tarfile.TarInfo(f"{number}.jpg")
            other.type, other.linkname = kind, "a" * 150 + ".jpg"
            tar.addfile(other)
    files = [("a.jpg", b"a"), ("a.npy", b""), ("b.txt", b""), ("b.NPY", b""), ("README", b""), (".c.jpg", b"")]
    data = sparse_tar() + buffer.getvalue() + tar_of(files)
    for name in ("0", "1"):
        (tmp_path / f"{name}{suffix}").write_bytes(data if suffix == ".tar" else gzip.compress(data))
    source = open_source(f"{tmp_path}/*{suffix}")
    expected = {
        "stored as a link": 4, "special (pipe, device)": 4, "stored as a sparse file": 2, "of an unknown kind": 2,
        "without suffix": 2, ".txt": 2, ".npy": 2,
    }  # fmt: skip
    assert (source.check(), dict(passed_over(source))) == (2, expected)
    next(iter(source.records()))
    assert (len(list(source.records())), dict(passed_over(source))) == (2, expected)


@pytest.mark.parametrize(
    ("name", "words"), [("a.tar", r"are gzip; .* \.tar\.gz$"), ("a.tgz", r"not packed; .* \.tar$")]
)
def test_a_name_that_its_bytes_contradict(tmp_path: Path, name: str, words: str) -> None:
    """One line that names the shard and the way out; it is a damaged one among others for `--skip-bad-rows`."""
    data = tar_of([("a.jpg", b"x")])
    (tmp_path / name).write_bytes(gzip.compress(data) if name == "a.tar" else data)
    with pytest.raises(InputError, match=rf"{name}: its name and its bytes disagree: .*{words}"):
        open_source(tmp_path / name)
    assert open_source(tmp_path / name, SourceConfig(skip_bad_rows=True)).name == str(tmp_path / name)


def test_a_damaged_shard_among_others(tmp_path: Path) -> None:
    """The error names shard and byte; with `source.skip_bad_rows` the run goes on with the other shards.

    A record that the damage follows at once is left out: it may lack members.
    """
    for number in range(3):
        write(tmp_path / f"{number}.tar", [(f"{name}.jpg", b"x" * 600) for name in "abc"])
    path = tmp_path / "1.tar"
    path.write_bytes(path.read_bytes()[:2200])
    spec = f"{tmp_path}/{{0..2}}.tar"
    way_out = r"get the shard again, or go on without the rest of it with `source\.skip_bad_rows`"
    what = r"'b\.jpg' has 600 bytes, and the tar ends before"
    with pytest.raises(InputError, match=rf"1\.tar: damaged at byte 1,536: {what}; {way_out}"):
        open_source(spec).check()
    source = open_source(spec, SKIP)
    assert (source.check(), source.skipped) == (6, 1)
    assert [record.id for record in source.records()] == ["0/a", "0/b", "0/c", "2/a", "2/b", "2/c"]
    for content, message in ((b"", "byte 0: the file is empty"), (b"no tar" * 100, "this is no tar")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_source(path).check()
    write(path, [("a.npy", b""), ("a.txt", b"")])
    assert len(read(spec)) == 6
    with pytest.raises(InputError, match=r"1\.tar: no images in it \(1 \.npy, 1 \.txt\)"):
        open_source(path).check()


@pytest.mark.parametrize("name", ["bad.tar", "bad.tar.gz", "bad.csv", "bad.jsonl"])
def test_a_source_that_is_wholly_bad(tmp_path: Path, name: str) -> None:
    """With `source.skip_bad_rows` it is passed over among others, and an error where there is nothing else."""
    bad, good = tmp_path / name, tmp_path / "good.tar"
    good.write_bytes(tar_of([("a.jpg", b"one")]))
    bad.write_bytes(b"image,id\n,\n" if name == "bad.csv" else bytes(range(256)) * 8)
    skips = SourceConfig(skip_bad_rows=True)
    source = open_sources([str(bad), str(good)], skips)
    assert (source.check(), [record.id for record in source.records()]) == (1, ["good/a"])
    assert source.skipped >= 1
    for specs in ([str(bad)], [str(bad), str(bad)]):
        with pytest.raises(InputError, match="skipped"):
            open_sources(specs, skips).check()


def test_images_that_are_not_read(tmp_path: Path) -> None:
    """One that is too large, and one of a tar that has changed meanwhile, where other bytes may lie at its place."""
    for suffix in (".tar", ".tgz"):
        [record] = read(write(tmp_path / f"s{suffix}", [("a.jpg", b"x" * 2000)]))
        found = read_image(record.images[0], 1999)
        assert isinstance(found, Failure)
        assert found.kind is ErrorKind.IMAGE_TOO_LARGE
    [record] = read(tmp_path / "s.tar")
    write(tmp_path / "s.tar", [("b.jpg", b"y" * 2000), ("a.jpg", b"x" * 2000)])
    found = bytes_of(record)
    assert isinstance(found, Failure)
    assert "its file has changed" in found.message
    (tmp_path / "s.tar").unlink()
    found = bytes_of(record)
    assert isinstance(found, Failure)
    assert found.kind is ErrorKind.IMAGE_MISSING


def test_a_gzip_file_is_read_at_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forth and back over checkpoints, and over several parts, it is what `gzip` unpacks; little is held."""
    monkeypatch.setattr(gunzip, "_FIRST_DISTANCE", 1 << 12)
    monkeypatch.setattr(gunzip, "_KEPT_BYTES", 1 << 13)
    monkeypatch.setattr(gunzip, "_CHUNK_BYTES", 1 << 11)
    monkeypatch.setattr(gunzip, "_MOST_CHECKPOINTS", 8)
    rng = random.Random(1)
    plain = rng.randbytes(60_000) + bytes(60_000) + rng.randbytes(30_000)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(plain[:50_000]) + gzip.compress(plain[50_000:]) + bytes(10))
    stream = GzipStream(str(path))
    for _ in range(200):
        at, count = rng.randrange(160_000), rng.randrange(5_000)
        assert stream.read(at, count) == plain[at : at + count]
    assert stream.size == len(plain)
    assert len(stream._checkpoints) <= 8
    assert len(stream._data) < 40_000


# --- patterns ---


@pytest.mark.parametrize(
    ("spec", "ids"),
    [
        ("{0..2}.tar", ["0/k", "1/k", "2/k"]),
        ("{2..0..2}.tar", ["2/k", "0/k"]),
        ("{1,0}.tar", ["1/k", "0/k"]),
        ("*.tar", ["0/k", "1/k", "2/k"]),
        ("[01].tar", ["0/k", "1/k"]),
        ("{train,val}/{00..01}.tar", ["train/00/k", "train/01/k", "val/00/k", "val/01/k"]),
        ("{val,train}/*.tgz", ["val/z/k", "train/z/k"]),
        ("train/*.tar", ["00/k", "01/k"]),
        ("**/00.tar", ["train/00/k", "val/00/k"]),
        ("{0..3}.tar", "1 of the 4 that it names are missing: 3.tar; get them"),
        ("{a..c}.tar", "no such file or folder"),
        ("{0..2000000}.tar", "the pattern names more than 100,000 files"),
        ("x*.tar", "no file matches"),
        ("{0.tar,m.csv}", "names shards (.tar) and other files (m.csv)"),
        ("photos.zip", "this kind of archive is not read; unpack it"),
        ("folder.tar", "this kind of file cannot be read"),
        ("train", "Files of records (.tar .tgz) are SOURCEs of their own: name them, as 'train/*.tar'"),
    ],
)
def test_patterns(tmp_path: Path, spec: str, ids: list[str] | str) -> None:
    """Braces and wildcards name shards in a fixed order; what is missing is one line before anything is read."""
    for name in ("0.tar", "1.tar", "2.tar", *(f"{one}/0{n}.tar" for one in ("train", "val") for n in (0, 1))):
        write(tmp_path / name, [("k.jpg", b"x")])
    for name in ("train/z.tgz", "val/z.tgz"):
        write(tmp_path / name, [("k.jpg", b"x")])
    (tmp_path / "m.csv").write_text("image\na.jpg\n")
    (tmp_path / "photos.zip").write_bytes(b"PK")
    (tmp_path / "folder.tar").mkdir()
    if isinstance(ids, list):
        assert [record.id for record in read(spec)] == ids
    elif spec != "folder.tar":
        with pytest.raises(InputError) as caught:
            open_source(spec).check()
        assert ids in str(caught.value)


def test_manifests_by_a_pattern(tmp_path: Path) -> None:
    """A pattern of manifests is all of them, but for the files of OUT."""
    for name in ("a/1.csv", "a/2.csv", "out/3.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"image\n{name}\n")
    source = open_source("*/*.csv", out=tmp_path / "out")
    assert (source.check(), [record.id for record in source.records()]) == (2, ["a/1.csv", "a/2.csv"])
    with pytest.raises(InputError, match="only the output directory's own files match"):
        open_source("out/*.csv", out=tmp_path / "out")


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    """1,000 records of three members are walked in a fixed amount of memory, but for 8 bytes a record in the check."""
    block = tar_of([("000000.jpg", b"i"), ("000000.txt", b"t"), ("000000.json", b'{"a": 1}')])[: 6 * 512]
    template = b"000000".join(block.split(b"000000"))
    assert template == block
    headers = [bytearray(block[at : at + 512]) for at in (0, 1024, 2048)]
    with (tmp_path / "s.tar").open("wb") as file:
        for number in range(1_000):
            for at, header in enumerate(headers):
                header[:6], header[148:156] = b"%06d" % number, b" " * 8
                header[148:156] = b"%06o\0 " % sum(header)
                file.write(bytes(header) + block[at * 1024 + 512 : at * 1024 + 1024])
        file.write(bytes(1024))
    source = open_source(tmp_path / "s.tar")
    fixed_bytes = 200_000
    tracemalloc.start()
    try:
        assert source.check() == 1_000
        assert tracemalloc.get_traced_memory()[1] < fixed_bytes + 16 * 1_000
        tracemalloc.reset_peak()
        assert sum(1 for _ in source.records()) == 1_000
        assert tracemalloc.get_traced_memory()[1] < fixed_bytes
    finally:
        tracemalloc.stop()


def test_sizes_from_headers(tmp_path: Path) -> None:
    """An estimate reads the beginning of a member, and not what follows it in the tar."""
    with_end = [("a.jpg", SMALL), ("b.jpg", SMALL[:40]), ("c.jpg", b"")]
    records = read(write(tmp_path / "s.tar", with_end))
    first, *others = sizes_of(records)
    assert first == ImageSize(64, 48, len(SMALL))
    assert all(isinstance(one, Failure) for one in others)
    (tmp_path / "s.tar").unlink()
    assert all(isinstance(one, Failure) and one.kind is ErrorKind.IMAGE_MISSING for one in sizes_of(records))


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_pages_of_pdfs_in_shards(tmp_path: Path, suffix: str) -> None:
    """A PDF in a shard is one record, or each of its pages is one."""
    path = write(tmp_path / f"s{suffix}", [("a.pdf", pdf(2)), ("b.jpg", SMALL)])
    assert [record.id for record in read(path, SourceConfig(pdf="pages"))] == ["s/a#page=1", "s/a#page=2", "s/b"]
    source = open_source(path)
    assert (source.check(), source.has_documents) == (2, True)
