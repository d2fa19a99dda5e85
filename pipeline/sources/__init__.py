"""Where the images are: a folder, a glob, one image, or a manifest -> plain generators of ImageRecord."""

import difflib
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pipeline.cloud.stores import ObjectAddress
from pipeline.config.extras import CLOUD_HINT, CLOUD_SCHEMES, PDF_SUFFIX, VIDEO_SUFFIXES, has_cloud_extra
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.http.hub import HubDataset
from pipeline.sources.base import AllBadError, Checkable, NoRecordsError, Source
from pipeline.sources.braces import MOST_FILES, expanded, files_of, has_braces
from pipeline.sources.bucket import BucketSource
from pipeline.sources.documents import PagesSource
from pipeline.sources.elsewhere import RemoteManifest
from pipeline.sources.folder import FolderSource
from pipeline.sources.formats import FORMATS, format_of
from pipeline.sources.gunzip import check_packing
from pipeline.sources.hub import HubSource
from pipeline.sources.inmemory import InMemorySource
from pipeline.sources.items import SourceLike, source_list
from pipeline.sources.joined import JoinedSource, check_apart, check_texts
from pipeline.sources.lines import opened, standard_input
from pipeline.sources.manifest import ManifestSource, StreamSource
from pipeline.sources.naming import IMAGE_SUFFIXES, MEDIA_SUFFIXES, public_address, public_image, scheme_of, shown
from pipeline.sources.passed import flaw_of_file, passed_over
from pipeline.sources.patterns import split_glob
from pipeline.sources.remote_shards import RemoteShards
from pipeline.sources.saved_datasets import dataset_files
from pipeline.sources.sharded import of_shard
from pipeline.sources.shards import TAR_SUFFIXES, Shard, label_of
from pipeline.sources.sidecars import SidecarSource
from pipeline.sources.single import ImageSource
from pipeline.sources.webdataset import ShardsSource
from pipeline.sources.wrapped import PossiblyEmptySource

__all__ = [
    "Source",
    "SourceLike",
    "has_stream",
    "open_source",
    "open_sources",
    "passed_over",
    "source_list",
    "source_name",
]

_PACKED = (".zip", ".7z", ".rar", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zst")
_NEAR_AMONG = 10_000


def open_source(spec: str | os.PathLike[str], config: SourceConfig | None = None, *, out: Path | None = None) -> Source:
    """A SOURCE of the command line. Nothing is read yet, except what kind of thing it is.

    `out` is the output directory, which is never read as part of a folder.
    Raises InputError for what does not exist, or is not read.
    """
    return open_sources([spec], config, out=out)


def open_sources(
    specs: Sequence[SourceLike],
    config: SourceConfig | None = None,
    *,
    out: Path | None = None,
    reads_sidecars: bool = False,
) -> Source:
    """Several of them in the given order, as one source; ids that stand in two of them are found by `check`.

    What is no text is an iterable of records in memory (`source_list` separates them). With `reads_sidecars` records
    have the column `sidecar`.
    """
    config = config or SourceConfig()
    if not specs:
        raise InputError("no SOURCE: name a folder, a glob or a manifest")
    opened = [(spec, source) for spec in specs for source in _opened(spec, config, out)]
    all_of_them, shard = [source for _, source in opened], config.own_shard
    if [source.name for source in all_of_them].count("-") > 1:
        raise InputError("standard input (-) can be read only once")
    check_apart(all_of_them)
    check_texts([spec for spec in specs if isinstance(spec, str)], config.sidecar_extension)
    own, sharding = (all_of_them, None) if shard is None else of_shard(opened, shard)
    sources = [_around(source, config, reads_sidecars=reads_sidecars) for source in own]
    first_counts = config.on_duplicate_id == "first"
    if len(sources) == 1 and not first_counts and sharding is None:
        return sources[0]
    if config.skip_bad_rows:
        sources = [PossiblyEmptySource(source, [AllBadError]) for source in sources]
    name = ", ".join(map(source_name, specs))
    return JoinedSource(sources, name=name, first_counts=first_counts, sharding=sharding)


def source_name(spec: SourceLike) -> str:
    """A SOURCE for people to read."""
    return shown(public_image(os.fspath(spec))) if isinstance(spec, str | os.PathLike) else InMemorySource.name


def has_stream(specs: Sequence[SourceLike]) -> bool:
    """Whether standard input, which can be read only once, is among them."""
    return any(isinstance(spec, str) and spec == "-" for spec in specs)


def _around(source: Checkable, config: SourceConfig, *, reads_sidecars: bool) -> Checkable:
    """The source with what settings change about any of them."""
    if reads_sidecars or config.skip_captioned:
        source = SidecarSource(source, config, reads=reads_sidecars)
    if config.pdf == "pages":
        source = PagesSource(source)
    return PossiblyEmptySource(source, [NoRecordsError]) if config.allow_empty else source


def _opened(spec: SourceLike, config: SourceConfig, out: Path | None) -> list[Checkable]:
    """One source, or several tables that one SOURCE names."""
    if not isinstance(spec, str | os.PathLike):
        return [InMemorySource(spec, config)]
    spec = os.fspath(spec)
    if not spec:
        raise InputError("SOURCE is empty: name a folder, a glob or a manifest")
    if spec == "-":
        return [StreamSource("", config, FORMATS[".jsonl"].reader, standard_input, name="-")]
    try:
        return _local(Path(spec), spec, config, out)
    except OSError as error:
        raise InputError(f"{shown(spec)}: {error.strerror or error}") from None


def _local(path: Path, spec: str, config: SourceConfig, out: Path | None) -> list[Checkable]:
    tables = dataset_files(path) if path.is_dir() else None
    if tables is not None:
        return _files(spec, spec.rstrip("/") + "/", tables, config)
    if config.group_by is not None and (path.is_dir() or format_of(spec) is FORMATS[".txt"]):
        raise InputError(f"{shown(spec)}: `source.group_by` names a column, and only manifests with columns have one")
    if path.is_dir():
        return [FolderSource(spec.rstrip("/") or "/", config, name=spec, out=out)]
    if path.exists():
        return _files(spec, "", [spec], config)
    scheme = scheme_of(spec)
    if scheme not in {None, "data"}:
        return [_address(spec, str(scheme), config)]
    if has_braces(spec) or (_is_file_pattern(spec) and split_glob(spec) is not None):
        folder, names = files_of(spec)
        return _files(spec, folder, [name for name in names if not _is_within(folder + name, out)], config)
    split = split_glob(spec)
    if split is not None:
        root, pattern = split
        if Path(root).is_dir():
            return [FolderSource(root, config, name=spec, pattern=pattern, out=out)]
        raise InputError(_missing(root, f"{shown(spec)}: no folder {shown(root)!r}"))
    raise InputError(_missing(spec, f"{shown(spec)}: no such file or folder"))


def _is_within(path: str, out: Path | None) -> bool:
    """Whether a file is a part of the output directory."""
    return out is not None and out.resolve() in Path(path).resolve().parents


def _is_file_pattern(spec: str) -> bool:
    """Whether a pattern is one of shards or manifests, each with records of its own."""
    return spec.lower().endswith(TAR_SUFFIXES) or format_of(spec) is not None


def _files(spec: str, folder: str, names: Sequence[str], config: SourceConfig) -> list[Checkable]:
    """Files that hold records: all shards are one source, every other file is one of its own."""
    if not names:
        raise InputError(f"{shown(spec)}: only the output directory's own files match")
    is_one = len(names) == 1 and folder + names[0] == spec
    tars = [name for name in names if name.lower().endswith(TAR_SUFFIXES)]
    if not tars:
        return [
            _file(folder + name, config, name=spec if is_one else folder + name, label=None if is_one else name)
            for name in names
        ]
    others = next((name for name in names if name not in tars), None)
    if others is not None:
        raise InputError(f"{shown(spec)}: names shards (.tar) and other files ({shown(others)}); name them apart")
    if config.group_by is not None:
        raise InputError(f"{shown(spec)}: `source.group_by` names a column of a manifest; in a shard the key groups")
    label = os.path.basename if is_one else str
    shards = [Shard(folder + name, label_of(label(name))) for name in names]
    odd = next((shard.path for shard in shards if not Path(shard.path).is_file()), None)
    if odd is not None:
        raise InputError(f"{shown(odd)}: not a regular file")
    if not config.skip_bad_rows:
        for shard in shards:
            check_packing(shard.path)
    return [ShardsSource(shards, config, name=spec)]


def _file(path: str, config: SourceConfig, *, name: str, label: str | None) -> Checkable:
    known = format_of(path)
    if known is not None:
        if not Path(path).is_file():
            raise InputError(f"{shown(path)}: not a regular file; to read a stream, give it as standard input (-)")
        return ManifestSource(
            path, config, known.reader, opened, name=name, unit=known.unit, blocks=known.blocks, label=label
        )
    if path.lower().endswith(MEDIA_SUFFIXES):
        return ImageSource(path)
    if path.lower().endswith(_PACKED):
        raise InputError(
            f"{shown(path)}: this kind of archive is not read; unpack it and name its folder "
            f"(shards are read as {' '.join(TAR_SUFFIXES)})"
        )
    if flaw_of_file(os.fsencode(path)) is None:
        return ImageSource(path)
    raise InputError(
        f"{shown(path)}: this kind of file cannot be read; to pass over such files, name their folder, or put a "
        f"pattern in quotes. {_what_is_read()}"
    )


def _address(url: str, scheme: str, config: SourceConfig) -> Checkable:
    path = url.partition("#")[0].partition("?")[0]
    name = shown(public_address(url))
    if path.lower().endswith(_PACKED):
        raise InputError(f"{name}: this kind of archive is not read from an address; download and unpack it")
    bucket = ObjectAddress.of(url)
    known = format_of(path if bucket is None else url)
    if bucket is not None and not has_cloud_extra():
        raise InputError(f"{name}: {CLOUD_HINT}")
    if path.lower().endswith(TAR_SUFFIXES) and (bucket is not None or scheme in {"http", "https"}):
        return RemoteShards(list(islice(expanded(url), MOST_FILES)), config, name=name)
    if known is not None and (bucket is not None or scheme in {"http", "https"}):
        return RemoteManifest(url, config, known)
    if bucket is not None and (set("*?[") & set(bucket.key) or not url.lower().endswith(MEDIA_SUFFIXES)):
        return BucketSource(bucket, config)
    if bucket is not None or (scheme in {"http", "https", "file"} and known is None):
        return ImageSource(url)
    if (dataset := HubDataset.of(url)) is not None:
        return _of_hub(dataset, config)
    if scheme == "hf":
        raise InputError(f"{name}: no dataset of the hub; write hf://datasets/OWNER/NAME")
    if scheme in CLOUD_SCHEMES:
        raise InputError(f"{name}: no bucket; write {scheme}://BUCKET/KEY, or {scheme}://BUCKET/PREFIX/")
    raise InputError(f"{name}: this version does not read {scheme}:// sources; download it and give its path")


def _of_hub(dataset: HubDataset, config: SourceConfig) -> Checkable:
    """One manifest of a dataset of the hub, or all of its Parquet files or images below the path."""
    known = format_of(dataset.path)
    if known is None:
        return HubSource(dataset, config)
    return RemoteManifest(dataset.resolved(dataset.path), config, known, dataset.named(dataset.path))


def _what_is_read() -> str:
    manifests, shards, images = " ".join(FORMATS), " ".join(TAR_SUFFIXES), " ".join(IMAGE_SUFFIXES)
    also = f"videos in {' '.join(VIDEO_SUFFIXES)}, documents in {PDF_SUFFIX}"
    return f"Manifests end in {manifests}, shards in {shards}, images in {images}, {also}"


def _missing(path: str, what: str) -> str:
    folder, name = os.path.split(path.rstrip("/"))
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in islice(entries, _NEAR_AMONG)]
    except (OSError, ValueError):
        return what
    if any(one.startswith(f"{name} ") for one in names):
        return f"{what}. A name with spaces stands in quotes"
    near = difflib.get_close_matches(name, names, n=1)
    return what + (f"; did you mean {shown(f'{folder}/{near[0]}' if folder else near[0])!r}?" if near else "")
