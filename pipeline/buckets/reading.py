"""A copy of an OUT in a bucket, for commands that read it: no lease is needed, and a run may be at work on it."""

import hashlib
import shutil
import time
from pathlib import Path
from typing import Final

from pipeline.buckets.journal import in_order
from pipeline.buckets.lease import LOCK_NAME, Lock
from pipeline.buckets.restore import restore
from pipeline.buckets.state import State, default_folder
from pipeline.buckets.uploads import SAID
from pipeline.cloud.bucket import Bucket, Version, at_first
from pipeline.cloud.stores import ObjectAddress
from pipeline.errors import BucketError
from pipeline.store import between_runs
from pipeline.store.appended import files_in

_PREFIX: Final = "read-"
_KEPT_S: Final = 86_400.0
"""Of copies that are older than the newest one: another command may still read them."""


def fetched(address: ObjectAddress) -> Path | None:
    """A directory that holds what the bucket holds now: the state directory of its last run, or a copy.

    None where no run has written there. Raises InputError, BucketError, ResourceError.
    """
    bucket = Bucket(address)
    with at_first():
        there = bucket.versions()
        lock = bucket.read(LOCK_NAME)
    if not in_order(list(there)) or lock is None:
        return None
    state = State(default_folder(address), address)
    if Lock.decoded(lock[0]).source == state.id and state.has_out:
        return state.out
    copy = state.folder / f"{_PREFIX}{_digest(there)}"
    if not copy.is_dir():
        new = state.folder / f".{copy.name}"
        restore(bucket, there, new, _newest(state.folder))
        with between_runs.held(new):
            pass  # rows of the journal are in parts by now
        new.rename(copy)
    _clear(state.folder, copy)
    return copy


def _digest(there: dict[str, Version]) -> str:
    named = sorted((name, sorted(version.tags.items())) for name, version in there.items() if name != LOCK_NAME)
    return hashlib.blake2b(repr(named).encode(), digest_size=8).hexdigest()


def _newest(folder: Path) -> Path | None:
    return max(folder.glob(f"{_PREFIX}*"), key=lambda path: path.stat().st_mtime, default=None)


def _clear(folder: Path, copy: Path) -> None:
    """Delete copies that nothing reads any more."""
    for path in folder.glob(f"{_PREFIX}*"):
        if path != copy and path.stat().st_mtime < time.time() - _KEPT_S:
            shutil.rmtree(path, ignore_errors=True)


def upload_reviews(address: ObjectAddress, copy: Path) -> None:
    """Add what people have said in a copy to the bucket. Each file has a name of its own, so that no lease is needed.

    Raises BucketError, which says where the files are.
    """
    bucket = Bucket(address)
    try:
        for folder in SAID:
            there = bucket.versions(folder)
            for path in files_in(copy / folder):
                if (name := f"{folder}/{path.name}") not in there:
                    bucket.write(name, path.read_bytes())
    except BucketError as error:
        raise BucketError(f"{error}. The reviews are in {copy}, and not in the bucket") from None
