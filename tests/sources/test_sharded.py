"""One shard of a source: every record is in exactly one, and no shard reads a file that is not its own."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.sections import SourceConfig
from pipeline.sources import SourceLike, open_sources
from pipeline.sources.sharded import Sharding, sharding_of
from tests.containers import SMALL, tar_of
from tests.pdfs import pdf

COUNT = 4


def shard_of(specs: Sequence[SourceLike], index: int, **more: object) -> tuple[list[str], Sharding]:
    """The ids of one shard, and how the source was divided."""
    config = SourceConfig.model_validate({"shard": f"{index}/{COUNT}", **more})
    source = open_sources(specs, config)
    count, ids = source.check(), [record.id for record in source.records()]
    assert count in {None, len(ids)}
    return ids, sharding_of(source)


def all_shards(*specs: SourceLike, **more: object) -> tuple[list[list[str]], list[Sharding]]:
    """Of every shard; together they have each record of the source once."""
    found = [shard_of(specs, index, **more) for index in range(COUNT)]
    ids = [ids for ids, _ in found]
    whole = open_sources(specs, SourceConfig.model_validate(more))
    whole.check()
    assert sorted(name for of_shard in ids for name in of_shard) == sorted(record.id for record in whole.records())
    return ids, [sharding for _, sharding in found]


def tars(count: int, folder: str = "tars") -> None:
    Path(folder).mkdir(exist_ok=True)
    for number in range(count):
        Path(f"{folder}/{number:05d}.tar").write_bytes(tar_of([(f"{key}.jpg", SMALL) for key in "abc"]))


def tables(count: int) -> None:
    Path("tables").mkdir()
    for number in range(count):
        rows = [{"image": {"bytes": SMALL, "path": f"{number}-{key}.jpg"}, "n": key} for key in "abc"]
        pq.write_table(pa.Table.from_pylist(rows), f"tables/train-{number:05d}.parquet")


def test_files_are_divided_by_name() -> None:
    """A pattern of tars or of Parquet; what is not a shard's own may be damaged, and it does not see it."""
    tars(12)
    tables(9)
    for spec, files in (("tars/*.tar", 12), ("tars/{00000..00011}.tar", 12), ("tables/*.parquet", 9)):
        ids, shardings = all_shards(spec)
        assert [len(of_shard) for of_shard in ids] == [3 * one.own for one in shardings]
        assert {one.files for one in shardings} == {files}
        assert sum(one.own for one in shardings) == files
        assert not any(one.is_by_id for one in shardings)
    ids, _ = all_shards("tars/*.tar")
    own = {f"{name.rpartition('/')[0]}.tar" for name in ids[0]}
    for path in Path("tars").iterdir():
        if path.name not in own:
            path.write_bytes(b"damaged")
    assert shard_of(["tars/*.tar"], 0)[0] == ids[0]


def test_a_source_that_grows_keeps_its_shards() -> None:
    """New files and records go to their own shards; the folder that files lie in is no part of their names."""
    tars(6)
    before, _ = all_shards("tars/*.tar")
    shutil.copytree("tars", "moved/deep")
    assert all_shards("moved/deep/*.tar")[0] == before
    expanded = sorted(str(path) for path in Path("tars").iterdir())  # as a shell writes a pattern out
    assert all_shards(*expanded)[0] == before
    tars(14)
    after, _ = all_shards("tars/*.tar")
    assert all(set(old) <= set(new) for old, new in zip(before, after, strict=True))
    Path("list.txt").write_text("".join(f"{number}.jpg\n" for number in range(50)))
    before, _ = all_shards("list.txt")
    Path("list.txt").write_text("".join(f"{number}.jpg\n" for number in range(-50, 90)))
    after, _ = all_shards("list.txt")
    assert all(set(old) <= set(new) for old, new in zip(before, after, strict=True))


def test_a_single_file_is_divided_by_id() -> None:
    """It is named as such; a pattern that matches one file is not one, for it may match two tomorrow."""
    tars(1)
    _, shardings = all_shards("tars/00000.tar")
    assert [(one.single, one.is_by_id, one.files) for one in shardings] == [("tars/00000.tar", True, 0)] * COUNT
    _, shardings = all_shards("tars/*.tar", "tars/0000*.tar", on_duplicate_id="first")
    assert {one.files for one in shardings} == {2}
    ids, shardings = all_shards("tars/0*.tar")
    assert sorted(map(len, ids)) == [0, 0, 0, 3]
    assert {(one.files, one.single) for one in shardings} == {(1, None)}


def test_other_sources_are_divided_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, manifests, groups of rows, records in memory, standard input; a PDF's pages stay together."""
    Path("photos").mkdir()
    for number in range(20):
        Path(f"photos/{number}.jpg").write_bytes(SMALL)
    Path("m.csv").write_text("image,group\n" + "".join(f"c{n}.jpg,g{n // 3}\n" for n in range(30)))
    for specs, more in (
        (["photos"], {}),
        (["photos/*.jpg"], {}),
        (["photos", "m.csv"], {}),
        (["m.csv"], {"group_by": "group"}),
        ([[{"image": f"{n}.jpg"} for n in range(20)]], {}),
    ):
        ids, shardings = all_shards(*specs, **more)
        assert sum(map(bool, ids)) == COUNT
        assert shardings[0] == Sharding(is_by_id=True)
    Path("pdfs").mkdir()
    for number in range(6):
        Path(f"pdfs/{number}.pdf").write_bytes(pdf(3, text=f"document {number}"))
    ids, _ = all_shards("pdfs", pdf="pages")
    assert all(len({name.partition("#")[0] for name in of_shard}) * 3 == len(of_shard) for of_shard in ids)
    read, write = os.pipe()
    os.write(write, b'{"image": "0.jpg"}\n{"image": "1.jpg"}\n{"image": "2.jpg"}\n')
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert len(shard_of(["-"], 0)[0]) < 3


def test_a_shard_without_files_has_no_records() -> None:
    """It is no error: an array may have more shards than there are files."""
    tars(1)
    empty = next(index for index in range(COUNT) if not shard_of(["tars/*.tar"], index)[0])
    source = open_sources(["tars/*.tar"], SourceConfig(shard=f"{empty}/{COUNT}"))
    assert (source.check(), list(source.records())) == (0, [])
