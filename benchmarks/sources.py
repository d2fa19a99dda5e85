"""Sources: rows/s and peak memory of the reader by format, and images/s of a run by the place where the images lie.

`python benchmarks/sources.py [--rows 200000] [--count 2000] [--rounds 3] [--slots 64]`
takes some minutes, and 1 GB of cache. With `--rows 5000000 --formats csv,parquet --count 0` it reads two manifests of
five million rows, which take 600 MB.
"""

import argparse
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import Measured, cache_dir, compare, endpoint, measured, options, outs, run_job, small_jpegs

BATCH = 10_000


def rows(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        yield {"image": f"shard/{number:09d}.jpg", "caption": f"a caption of some words, number {number}"}


def batches(count: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        names = [f"shard/{number:09d}.jpg" for number in numbers]
        captions = [f"a caption of some words, number {number}" for number in numbers]
        yield pa.record_batch({"image": names, "caption": captions})


def write_csv(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("image,caption\n")
        file.writelines(f"{row['image']},{row['caption'].replace(',', '')}\n" for row in rows(count))


def write_jsonl(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(count))


def write_parquet(path: Path, count: int) -> None:
    with pq.ParquetWriter(path, next(batches(1)).schema) as writer:
        for batch in batches(count):
            writer.write_batch(batch, row_group_size=100_000)


def write_parquet_with_bytes(path: Path, count: int) -> None:
    image = bytes(2000)
    with pq.ParquetWriter(path, pa.schema({"image": pa.binary(), "caption": pa.string()}), use_dictionary=False) as out:
        for batch in batches(count):
            out.write_batch(pa.record_batch({"image": [image] * batch.num_rows, "caption": batch["caption"]}))


def write_tar(path: Path, count: int) -> None:
    image = bytes(2000)
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for number, row in enumerate(rows(count)):
            add(tar, f"{number:09d}.jpg", image)
            add(tar, f"{number:09d}.txt", row["caption"].encode())


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    tar.getmembers().clear()


FORMATS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "csv": ("m.csv", write_csv),
    "jsonl": ("m.jsonl", write_jsonl),
    "parquet": ("m.parquet", write_parquet),
    "parquet with bytes": ("bytes.parquet", write_parquet_with_bytes),
    "tar": ("m.tar", write_tar),
}


def made(folder: Path, name: str, write: Callable[[Path, int], None], count: int) -> Path:
    path = folder / f"{count}-{name}"
    if not path.exists():
        unfinished = path.with_name(f".{path.name}")
        write(unfinished, count)
        unfinished.replace(path)
    return path


def places(images: Path, folder: Path) -> dict[str, Path]:
    """The same images in a folder, in a tar, in Parquet and in an Arrow file."""
    files = sorted(images.iterdir())
    where = {"folder": images, "tar": folder / "images.tar", "parquet": folder / "images.parquet"}
    where |= {"tgz": folder / "images.tgz", "arrow": folder / "images.arrow"}
    for name, mode in (("tar", "w"), ("tgz", "w:gz")):
        with tarfile.open(where[name], mode) as tar:  # type: ignore[call-overload] # a mode
            for file in files:
                tar.add(file, file.name)
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    data = pa.table({"image": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
    pq.write_table(data, where["parquet"], row_group_size=100)
    with pa.OSFile(str(where["arrow"]), "wb") as sink, pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data, max_chunksize=100)
    return where


def read(path: Path) -> None:
    """The check, then all records, as a run makes them."""
    from pipeline.sources import open_source  # noqa: PLC0415 - not what the table measures

    source = open_source(path)

    def job() -> int:
        source.check()
        return sum(1 for _ in source.records())

    measured(job)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--read", type=Path, help="read one source in this process")
    arguments = parser.parse_args()
    if arguments.read is not None:
        read(arguments.read)
        return
    cache = cache_dir(arguments.cache)
    for name in arguments.formats.split(","):
        path = made(cache, *FORMATS[name], arguments.rows)
        found = run_job("sources.py", "--read", path)
        print(
            f"{name}: {found.images:,} rows, {found.images_per_s:,.0f} rows/s, peak {found.peak_mb:.0f} MB", flush=True
        )
    if arguments.count:
        runs(small_jpegs(arguments), arguments)


def runs(images: Path, arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as scratch, endpoint(1) as base_url:
        out = outs(scratch)

        def job(source: Path) -> Callable[[], Measured]:
            return lambda: run_job("ours.py", source, next(out), base_url, "--slots", arguments.slots)

        compare({name: job(source) for name, source in places(images, Path(scratch)).items()}, arguments, "folder")


if __name__ == "__main__":
    main()
