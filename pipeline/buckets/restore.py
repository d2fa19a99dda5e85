"""An output directory made of what a bucket holds: the parts and small files are copied, the ledger is made anew."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from pipeline.buckets.journal import JOURNAL_NAME, Segment, in_order
from pipeline.buckets.lease import LOCK_NAME
from pipeline.buckets.state import Stamp, parts_in, read_json
from pipeline.cloud.bucket import Bucket, Version
from pipeline.errors import InputError, ResourceError
from pipeline.files import disk_errors
from pipeline.store import layout, parquet, unsaved
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger import transfer
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.opening import LEDGER_NAME
from pipeline.store.refill import forget_gaps, keep_last, take_over

_AT_ONCE: Final = 8
_VERSIONS_NAME: Final = ".versions.json"
_COPIED: Final = re.compile(
    r"data/part-\d{5,}\.parquet|runs/[\w.-]*\w\.json|(?:reviews|comparisons)/[\w.-]*\w\.parquet"
    r"|README\.md|config\.toml|sources\.json|status\.json|failures\.csv"
)
"""Names of objects that become files: no other name of a bucket does."""


def check_place(bucket: Bucket, there: Collection[str]) -> None:
    """Raise InputError where something else lies below the address, ResourceError where the journal is gone."""
    others = [name for name in there if name != LOCK_NAME and not name.endswith("/")]
    if not others or in_order(others):
        return
    if any(name.startswith(f"{DATA_NAME}/part-") for name in others) and "config.toml" in others:
        raise ResourceError(
            f"{bucket.named(JOURNAL_NAME)} holds nothing, and there are parts: copy {bucket.named('')} into a "
            "directory, where `vision-batch rebuild` makes a ledger of the parts, and name an empty address as OUT"
        )
    raise InputError(
        f"{bucket.named('')} is not empty and was not made by vision-batch (it holds {min(others)!r}). Name a new or "
        "empty address; nothing in this one was touched"
    )


def restore(bucket: Bucket, there: Mapping[str, Version], target: Path, old: Path | None = None) -> dict[str, Stamp]:
    """Make `target` an output directory as the bucket describes it; the stamps of its parts as they came.

    Parts that `old`, an earlier copy, has in the same version are linked and not copied again.
    Raises ResourceError where an object is damaged or the disk fails, BucketError.
    """
    with disk_errors(target):
        if target.is_dir():
            shutil.rmtree(target)
        target.mkdir()
        segments = _segments(bucket, there)
        if not segments:
            return {}
        _copy(bucket, {name: version for name, version in there.items() if _COPIED.fullmatch(name)}, target, old)
        stamps = parts_in(target)
        _fill(target, segments)
        return stamps


def _segments(bucket: Bucket, there: Collection[str]) -> list[Segment]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = in_order(list(there))
        found = zip(names, pool.map(bucket.read, names), strict=True)
        return [Segment.decoded(got[0], bucket.named(name)) for name, got in found if got is not None]


def _copy(bucket: Bucket, names: Mapping[str, Version], target: Path, old: Path | None) -> None:
    tags = {name: dict(version.tags) for name, version in names.items()}
    before = read_json(old / _VERSIONS_NAME) if old is not None else {}

    def fetch(name: str) -> None:
        path = target / name
        path.parent.mkdir(exist_ok=True)
        if old is not None and name.startswith(DATA_NAME) and tags[name] and before.get(name) == tags[name]:
            with suppress(OSError):  # it is copied then
                return os.link(old / name, path)
        with path.open("xb") as file:
            bucket.copy(name, file)
        return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(fetch, names))
    (target / _VERSIONS_NAME).write_bytes(orjson.dumps(tags))


def _fill(out: Path, segments: list[Segment]) -> None:
    """The ledger: records from the parts, all else from the last segment, unsealed rows from all of them."""
    data, last = out / DATA_NAME, segments[-1]
    data.mkdir(exist_ok=True)
    numbers = parquet.part_numbers(data)
    with SqliteLedger(out / LEDGER_NAME) as ledger:
        keep_last(ledger, data, numbers, lambda _: None)
        ledger.set_meta({"schema": last.schema, "layout": b"", **layout.footers(data)})
        runs, counts = last.history.numbers(), Counter[str]()
        for number in numbers:
            take_over(ledger, data, number, runs, counts, has_history=True)
        transfer.carry(ledger, last.history)
        if numbers:
            forget_gaps(ledger, numbers)
    add_answers(out, "journal", (answer for segment in segments for answer in segment.answers), {})


def add_answers(
    out: Path, named: str, answers: Iterable[unsaved.UnsavedAnswer], counts: Mapping[str, int] | None
) -> int:
    """Lay answers beside the ledger, which takes in those that are new to it; see `unsaved.by_run` for `counts`."""
    return unsaved.append(unsaved.new_path(out, named), unsaved.by_run(answers, counts))
