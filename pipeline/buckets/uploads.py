"""Carries what a run leaves in its state directory into the bucket, in a thread of its own.

Two kinds of uploads: a segment of the journal every few seconds, and with every seal a segment and then the parts that
have changed: new ones, and those with rows that were asked again, which are replaced under their names. A store does
that at once, and a key never leaves its part: a reader meets each key once. What goes up is linked or copied in the
writer's thread, when nothing changes; the thread here sends it, and asks the lease before every piece.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from pipeline.buckets.journal import Segment, capture, place_of, segment_name
from pipeline.buckets.lease import Lease
from pipeline.buckets.state import Stamp, State, stamp_of
from pipeline.cloud.bucket import Bucket
from pipeline.errors import BucketError, LeaseLostError
from pipeline.files import disk_errors
from pipeline.store import outdir
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.reviews import REVIEWS_NAME
from pipeline.store.votes import COMPARISONS_NAME

T = TypeVar("T")
EVERY_S: Final = 5.0
"""Between two segments, while there is something new."""
TRIES_S, WAITS_S = 60.0, (1.0, 2.0, 4.0, 8.0)
"""How long an upload that fails is tried again, and the time between two tries; the library's own come on top."""
SAID: Final = (REVIEWS_NAME, COMPARISONS_NAME)
"""Folders of what people say of answers."""
SMALL: Final = (outdir.CARD_NAME, outdir.CONFIG_NAME, outdir.SOURCES_NAME, outdir.FAILURES_NAME, outdir.STATUS_NAME)


@dataclass(frozen=True, slots=True)
class _Sync:
    """What goes up together, in this order."""

    number: int
    segment: Segment
    parts: dict[str, tuple[Path, Stamp]] = field(default_factory=dict)
    """By their names in the bucket: where each lies until it is sent."""
    gone: tuple[str, ...] = ()
    """Parts of the bucket that there are none of any more."""
    has_parts: bool = False
    """Then segments before this one are of no more use."""


class Uploads:
    """The uploads of one run. Methods are called by the writer's thread, and `finish` after it has ended."""

    def __init__(self, bucket: Bucket, lease: Lease, state: State, there: Collection[str]) -> None:
        """`there` are the objects in the bucket when the run began."""
        self._bucket, self._lease, self._state = bucket, lease, state
        self._journal = [name for name in there if place_of(name) is not None]
        self._there = {name for name in there if name.startswith("data/")}
        self._uploaded = {name: one for name, one in state.uploaded().items() if name in self._there}
        self._small: dict[str, Stamp] = {}
        self._numbers = count()
        self._since = 0
        self._last: Segment | None = None
        self._due, self._has_sealed = 0.0, False
        self._queue: SimpleQueue[_Sync | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._waiting = 0
        self._failure: BucketError | None = None
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- the writer's thread

    def step(self, name: str) -> None:
        """After a seal the places of unsealed rows begin anew."""
        if name == "marked":
            self._since = 0

    def check(self) -> None:
        """Raise what has ended the uploads."""
        if self._failure is not None:
            raise self._failure

    def begin(self, ledger: SqliteLedger) -> None:
        """Upload what there is, before anything is asked: a store that denies is found out now."""
        self._capture(ledger, has_parts=True)
        self._wait()

    def tick(self, ledger: SqliteLedger) -> None:
        """Upload what is new, where some time has passed. Raises what `check` raises."""
        self.check()
        if not self._waiting and (self._has_sealed or time.monotonic() >= self._due):
            self._capture(ledger, has_parts=self._has_sealed)

    def sealed(self, ledger: SqliteLedger) -> None:
        """Upload the parts that have changed, at once or as soon as the uploads before are done."""
        self._has_sealed = True
        self.tick(ledger)

    def publish(self, ledger: SqliteLedger) -> None:
        """Upload the history now: what it says holds for requests that are sent after this."""
        self.check()
        segment, self._since = capture(ledger, self._since)
        sync = _Sync(next(self._numbers), segment)
        try:
            self._retried(lambda: self._put_segment(sync))
        except BucketError as error:
            self._fail(error)
            self.check()

    def last(self, ledger: SqliteLedger) -> None:
        """Upload all that there is. `finish` waits for it."""
        if self._failure is None:
            self._capture(ledger, has_parts=True)

    def finish(self) -> None:
        """Wait until everything is uploaded, and end. Raises BucketError where it could not be."""
        self.end()
        self._thread.join()
        self.check()

    def end(self) -> None:
        """End the thread once it has done what there is to do."""
        self._queue.put(None)

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)
        self.check()

    def _capture(self, ledger: SqliteLedger, *, has_parts: bool) -> None:
        self._due = time.monotonic() + EVERY_S
        segment, self._since = capture(ledger, self._since)
        if not has_parts and not segment.answers and self._last is not None and segment.history == self._last.history:
            return
        self._last, number = segment, next(self._numbers)
        with disk_errors(self._state.folder):
            parts = self._changed_parts(number) if has_parts else {}
        gone = tuple(self._there - self._state.parts().keys()) if has_parts else ()
        self._has_sealed = self._has_sealed and not has_parts
        with self._changed:
            self._waiting += 1
        self._queue.put(_Sync(number, segment, parts, gone, has_parts))

    def _changed_parts(self, number: int) -> dict[str, tuple[Path, Stamp]]:
        """The parts that are not in the bucket as they are now, each under a name at which nothing replaces it."""
        self._state.links.mkdir(exist_ok=True)
        found = {}
        for name, stamp in self._state.parts().items():
            if self._uploaded.get(name) != stamp:
                link = self._state.links / f"{number}-{Path(name).name}"
                _link(self._state.out / name, link)
                found[name] = (link, stamp)
        return found

    # ---------------------------------------------------------------- the thread of the uploads

    def _run(self) -> None:
        while (sync := self._queue.get()) is not None:
            try:
                if self._failure is None:
                    self._send(sync)
            except BucketError as error:
                self._fail(error)
            except OSError as error:
                self._fail(BucketError(f"{error.filename or self._state.folder}: {error.strerror or error}"))
            finally:
                for link, _ in sync.parts.values():
                    with suppress(OSError):
                        link.unlink(missing_ok=True)
                with self._changed:
                    self._waiting -= 1
                    self._changed.notify_all()

    def _send(self, sync: _Sync) -> None:
        self._retried(lambda: self._put_segment(sync))
        for name in sync.gone:
            self._retried(lambda name=name: self._bucket.delete([name]))  # type: ignore[misc]
            self._there.discard(name)
        for name, (link, stamp) in sorted(sync.parts.items()):
            self._retried(lambda name=name, link=link: self._bucket.write_file(name, link, self._lease.check))  # type: ignore[misc]
            self._uploaded[name] = stamp
            self._there.add(name)
        if sync.parts:
            self._state.note_uploaded(self._uploaded)
        for name in self._small_files():
            self._put_small(name)
        if sync.has_parts:
            self._forget_journal((self._lease.fence, sync.number))

    def _forget_journal(self, place: tuple[int, int]) -> None:
        """Delete the segments before this one: the parts hold their rows by now."""
        with self._changed:
            before = [name for name in self._journal if (place_of(name) or place) < place]
            self._journal = [name for name in self._journal if name not in before]
        with suppress(BucketError):  # they do no harm, and the next run deletes them
            self._lease.check()
            self._bucket.delete(before)

    def _put_segment(self, sync: _Sync) -> None:
        name = segment_name(self._lease.fence, sync.number)
        self._bucket.create(name, sync.segment.encoded())  # where it is there already, the answer to it was lost
        with self._changed:
            self._journal.append(name)

    def _small_files(self) -> list[str]:
        out = self._state.out
        folders = (outdir.RUNS_NAME, *SAID)
        inside = [f"{one}/{file.name}" for one in folders for file in sorted((out / one).glob("[!.]*.*"))]
        return [name for name in (*inside, *SMALL) if (out / name).is_file()]

    def _put_small(self, name: str) -> None:
        path = self._state.out / name
        try:
            stamp, data = stamp_of(path), path.read_bytes()
        except FileNotFoundError:  # the list of failures, where there are none any more
            return
        if self._small.get(name) != stamp:
            self._retried(lambda: self._bucket.write(name, data))
            self._small[name] = stamp

    def _retried(self, work: Callable[[], T]) -> T:
        """Try it for a minute. Raises BucketError."""
        until, waits = time.monotonic() + TRIES_S, iter(WAITS_S)
        while True:
            try:
                self._lease.check()
                return work()
            except BucketError as error:
                if not error.is_transient or time.monotonic() >= until:
                    raise
            time.sleep(next(waits, WAITS_S[-1]))

    def _fail(self, error: BucketError) -> None:
        if self._failure is not None:
            return
        lost = isinstance(error, LeaseLostError)
        rest = (
            "It has uploaded nothing since. Answers that are not in the bucket are"
            if lost
            else "Answers that are not in the bucket yet are"
        )
        failure = type(error)(
            f"{error}. {rest} in {self._state.folder}: the same command with this state directory goes on"
        )
        failure.is_transient = error.is_transient
        self._failure = failure


def _link(path: Path, link: Path) -> None:
    """Another name of a file, or a copy where the file system has no such thing."""
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        shutil.copyfile(path, link)
