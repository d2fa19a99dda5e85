"""An OUT in a bucket, as a run holds it and as other commands read it."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pipeline.buckets.dataset import BucketDataset
from pipeline.buckets.lease import Clock, Lock, take
from pipeline.buckets.rescue import rescue
from pipeline.buckets.restore import check_place, restore
from pipeline.buckets.state import State, default_folder
from pipeline.buckets.uploads import Uploads
from pipeline.cloud.bucket import Bucket, Version, at_first
from pipeline.cloud.stores import ObjectAddress
from pipeline.engine.progress import counted
from pipeline.files import disk_errors
from pipeline.store.dataset import Dataset
from pipeline.store.opening import LEDGER_NAME

_LOCK_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class BucketOut:
    """An OUT in a bucket, held for a run."""

    name: str
    """Its address."""
    out: Path
    """Where the run works."""
    open_dataset: Callable[..., Dataset]
    finish: Callable[[], None]
    """Waits for the last uploads. Raises BucketError where some have failed."""


@contextmanager
def held(
    address: ObjectAddress, state: Path | None, say: Callable[[str], None], clock: Clock | None = None
) -> Iterator[BucketOut]:
    """Hold the address for a run: its state directory is as the bucket is, or newer where it was the last to write.

    Raises OutInUseError where another run holds it, InputError, ResourceError, BucketError.
    """
    bucket, for_lock = Bucket(address), Bucket(address, timeout_s=_LOCK_TIMEOUT_S)
    with at_first():
        there = bucket.versions()
        check_place(bucket, there)
        place = State(default_folder(address) if state is None else state, address)
        lease, was = take(for_lock, say, clock)
    try:
        with at_first():
            there = bucket.versions()
        say(f"state of {bucket.named('')}: {place.folder}  (the live ledger, and parts that are being made)")
        _make_current(bucket, there, place, was, say)
        lease.name_source(place.id)
        with disk_errors(place.folder):
            place.cleared(place.links)
        uploads = Uploads(bucket, lease, place, set(there))
        try:
            yield BucketOut(str(address), place.out, partial(BucketDataset.open_for, uploads), uploads.finish)
        finally:
            uploads.end()
    finally:
        lease.release()


def _make_current(
    bucket: Bucket, there: Mapping[str, Version], state: State, was: Lock | None, say: Callable[[str], None]
) -> None:
    """Restore the state directory, unless it is the one that the bucket's contents come from."""
    if was is not None and was.source == state.id and state.has_out:
        return
    stamps = restore(bucket, there, state.new)
    uploaded, is_empty = state.uploaded(), not (state.new / LEDGER_NAME).is_file()
    left = rescue(state.out, uploaded, state.new) if state.has_out and not is_empty else 0
    aside = state.put_in_place()
    state.note_uploaded(stamps)
    if aside is not None and is_empty:
        say(f"note: {bucket.named('')} holds nothing; what an earlier run there has left here is in {aside}")
    elif aside is not None:
        shutil.rmtree(aside)
    if stamps:
        say(f"restored from {bucket.named('')}: {counted(len(stamps), 'part')}")
    if left:
        say(f"note: {counted(left, 'row')} of this state directory had not been uploaded: those that are new are taken")
