"""A Parquet file for each WebDataset shard that a run has read: its keys with their texts, without the images."""

import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.errors import InputError
from pipeline.export.pairs import Pair, Pairs
from pipeline.export.report import Reason
from pipeline.export.rows import Rows
from pipeline.export.tree import Tree
from pipeline.originals import Originals

ENDING: Final = ".captions.parquet"
"""Not `.parquet` alone: so img2dataset calls its own table of a shard."""
_MADE_BY: Final = {b"made_by": b"vision-batch export"}
_OPEN: Final = 16
"""Shards that are written to at a time: rows come in the order of their shards, but for those asked again."""
_ROWS: Final = 1_000


def export_shard_tables(rows: Rows, dest: Path) -> int:
    """The tables in one folder, which is not one of the shards'."""
    return _Tables(rows, Tree(dest)).write()


def export_beside_shards(rows: Rows) -> int:
    """Each table beside its shard."""
    if rows.options.images != "none":
        raise InputError("the format webdataset needs a DEST: a folder for shards with images; `images=none` writes a "
                         "table beside each shard that the images are in")  # fmt: skip
    return _Tables(rows, None).write()


class _Tables:
    def __init__(self, rows: Rows, tree: Tree | None) -> None:
        self._rows, self._tree = rows, tree
        self._pairs, self._originals = Pairs(rows), Originals(rows.out)
        column = rows.options.text_column
        own = [pa.field(name, pa.string()) for name in ("key", column, "id")]
        others = [field for field in self._pairs.others if field.name not in {"key", column, "id"}]
        self._schema, self._column = pa.schema([*own, *others], _MADE_BY), column
        self._paths: dict[str, Path] = {}
        """Of each shard the table."""

    def write(self) -> int:
        """Rows are sorted into a stream for each shard first. Returns the number of those that are in a shard."""
        written = 0
        with tempfile.TemporaryDirectory(
            prefix=".vision-batch-", dir=None if self._tree is None else self._tree.root
        ) as work:
            streams = _Streams(Path(work), self._schema)
            for pair in self._pairs.each(self._rows.counts):
                place = self._originals.in_shard(pair.row)
                if place is None:
                    self._rows.counts.leave_out(Reason.NO_SHARD, pair.row["id"])
                    continue
                shard, member = place
                self._take(shard)
                streams.add(shard, self._row(pair, member))
                written += 1
            streams.close()
            for shard, path in self._paths.items():
                self._write(path, streams.read(shard))
        return written

    def _row(self, pair: Pair, member: str) -> dict[str, Any]:
        folder, slash, name = member.rpartition("/")
        own = {"key": folder + slash + name.partition(".")[0], self._column: pair.text, "id": pair.row["id"]}
        return {**pair.others, **own}

    def _take(self, shard: str) -> None:
        """Choose the table of a shard. Raises InputError where it is another one's."""
        if shard in self._paths:
            return
        stem = Path(shard).name
        name = stem[: stem.lower().index(".tar")] + ENDING
        path = Path(shard).parent / name if self._tree is None else self._tree.path(name)
        if path in self._paths.values():
            raise InputError(f"two shards are called {stem}; leave DEST out, so that each table is beside its shard")
        if path.exists() and not _is_ours(path):
            raise InputError(f"{path} is there already, and no export wrote it; move it away, or name a DEST")
        self._paths[shard] = path

    def _write(self, path: Path, batches: Iterator[pa.RecordBatch]) -> None:
        with files.replaced(path) as file, pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)


def _is_ours(path: Path) -> bool:
    with suppress(pa.ArrowException, OSError):
        return (pq.read_schema(path).metadata or {}).get(b"made_by") == _MADE_BY[b"made_by"]
    return False


class _Streams:
    """Rows of many shards on the disk, each in the order in which they came."""

    def __init__(self, work: Path, schema: pa.Schema) -> None:
        self._work, self._schema = work, schema
        self._numbers: dict[str, int] = {}
        self._held: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()

    def add(self, shard: str, row: dict[str, Any]) -> None:
        held = self._held.setdefault(shard, [])
        held.append(row)
        self._held.move_to_end(shard)
        if len(held) >= _ROWS:
            self._spill(shard)
        if len(self._held) > _OPEN:
            self._spill(next(iter(self._held)))

    def close(self) -> None:
        """Write what is held."""
        for shard in list(self._held):
            self._spill(shard)

    def read(self, shard: str) -> Iterator[pa.RecordBatch]:
        """The rows of a shard, as streams behind each other."""
        path = self._path(shard)
        with path.open("rb") as file:
            while file.tell() < path.stat().st_size:
                with pa.ipc.open_stream(file) as stream:
                    yield from stream

    def _spill(self, shard: str) -> None:
        rows = self._held.pop(shard)
        with self._path(shard).open("ab") as file, pa.ipc.new_stream(file, self._schema) as stream:
            stream.write_table(pa.Table.from_pylist(rows, self._schema))

    def _path(self, shard: str) -> Path:
        return self._work / str(self._numbers.setdefault(shard, len(self._numbers)))
