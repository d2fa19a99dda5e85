"""The lock of an OUT in a bucket: a lease, which its holder renews, with a number that grows with each holder.

It is the object `lock.json`, which is written on the condition that no other run has written it since. A clock of
another machine is never read: who finds the lock held watches it, by a clock of its own, for a sign of life.

- A lease that its holder has given back is taken at once. So is one whose process ran on this very machine, and has
  ended or has not renewed it for `EXPIRES_S`, by the clock that both have.
- A lease that changes while it is watched has a holder that lives: the run ends with one line.
- A lease that stays as it is for `EXPIRES_S` is taken over. Its holder, should it wake up, finds out before it uploads
  anything more: where its own renewal is older than `SAFE_S`, it renews first, and that fails.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.cloud.bucket import Bucket, Version
from pipeline.errors import BucketError, InputError, LeaseLostError, OutInUseError
from pipeline.formatting import printable

LOCK_NAME: Final = "lock.json"
RENEW_S, EXPIRES_S, SAFE_S, POLL_S = 10.0, 60.0, 40.0, 1.0
_LONGEST_TRIES: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What the lock says of its holder."""

    fence: int
    """Grows by one with each holder."""
    source: str
    """The state directory that the contents of the bucket come from; empty where there are none."""
    host: str
    pid: int
    machine: str
    """Of the holder's process, where this can be said exactly; see `machine`."""
    until: str
    """By the holder's clock: for people."""
    is_held: bool = True
    renewals: int = 0
    renewed_s: float = 0.0
    """When, by the clock of that machine since it was started; 0 where there is none."""

    def encoded(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def decoded(cls, data: bytes) -> "Lock":
        """Raises ValueError for anything else."""
        try:
            values: dict[str, Any] = orjson.loads(data)
            types = {"fence": int, "source": str, "host": str, "pid": int, "machine": str, "until": str}
            if not all(type(values[name]) is kind for name, kind in types.items()):
                raise ValueError("a value of another type")
            return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None

    @property
    def is_alive(self) -> bool:
        """Whether the holder's process is one of this machine that goes on."""
        return self.machine != "" and machine(self.pid) == self.machine

    @property
    def is_over(self) -> bool:
        """Whether the holder's process was one of this machine and has ended, or has not renewed it for a minute."""
        here = machine()
        if self.machine == "" or self.machine.partition(" ")[0] != here.partition(" ")[0]:
            return False
        if self.renewed_s and since_boot() - self.renewed_s >= EXPIRES_S:
            return True
        return self.machine.rpartition(" ")[0] == here.rpartition(" ")[0] and not self.is_alive

    @property
    def holder(self) -> str:
        return f"host {printable(self.host)}, pid {self.pid}"


def machine(pid: int | None = None) -> str:
    """Names the boot of this machine, the process's view of pids, and when the process began; empty where unknown."""
    number = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        began = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        # A zombie has ended; its parent has not asked yet.
        return "" if began[0] == "Z" else f"{boot} {os.readlink('/proc/self/ns/pid')} {began[19]}"  # noqa: PTH115
    except (OSError, ValueError, IndexError):
        return ""


def since_boot() -> float:
    """Of this machine, sleep included: one clock for all its processes; 0 where there is none."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, which tests inject."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class Lease:
    """A lease that is held: renewed by a thread, until `release`."""

    def __init__(self, bucket: Bucket, lock: Lock, version: Version, clock: Clock) -> None:
        """Made by `take`."""
        self._bucket, self.lock, self._version, self._clock = bucket, lock, version, clock
        self._confirmed = clock.now(), clock.wall()
        self._mutex, self._ends = threading.Lock(), threading.Event()
        self._lost: LeaseLostError | None = None
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def fence(self) -> int:
        return self.lock.fence

    def check(self) -> None:
        """Raise LeaseLostError where another run has taken over, BucketError where that cannot be found out."""
        if self._lost is not None:
            raise self._lost
        if self._age_s() > SAFE_S:
            self.renew()

    def renew(self, **changes: Any) -> None:  # noqa: ANN401 - fields of Lock
        """Say that this run goes on. Raises what `check` raises."""
        with self._mutex:
            if self._lost is not None:
                raise self._lost
            for _ in range(2):
                began = self._clock.now(), self._clock.wall()
                count = self.lock.renewals + 1
                lock = replace(self.lock, until=_until(), renewals=count, renewed_s=since_boot(), **changes)
                version = self._bucket.replace(LOCK_NAME, lock.encoded(), self._version)
                if version is not None:
                    self.lock, self._version, self._confirmed = lock, version, began
                    return
                self._look()
            raise BucketError(f"{self._bucket.named(LOCK_NAME)}: changes all the time")

    def name_source(self, source: str) -> None:
        """Say that the contents of the bucket come from this state directory from now on."""
        self.renew(source=source)

    def release(self) -> None:
        """Give it back, so that the next run need not wait. A failure is none: then it expires."""
        self._ends.set()
        self._thread.join()
        if self._lost is None:
            with suppress(BucketError):
                self.renew(is_held=False)

    def _look(self) -> None:
        """After a renewal that was refused: whether an earlier try of ours had come through, or the lease is lost."""
        found = self._bucket.read(LOCK_NAME)
        with suppress(ValueError):
            if found is not None:
                lock = Lock.decoded(found[0])
                if (lock.fence, lock.machine, lock.pid) == (self.lock.fence, self.lock.machine, self.lock.pid):
                    self._version = found[1]
                    return
                self._lost = LeaseLostError(
                    f"{self._bucket.named('')} was taken over by another run ({lock.holder}): this one stood still for "
                    "too long"
                )
                raise self._lost
        self._lost = LeaseLostError(f"{self._bucket.named(LOCK_NAME)} is gone, or is no lock any more")
        raise self._lost

    def _age_s(self) -> float:
        """Since the last renewal. A machine that slept may have stopped one of the two clocks."""
        then, wall = self._confirmed
        return max(self._clock.now() - then, self._clock.wall() - wall)

    def _keep(self) -> None:
        while not self._ends.wait(RENEW_S):
            with suppress(BucketError):  # what uploads next finds out
                self.renew()


@dataclass(slots=True)
class _Taker:
    """One try to take the lease of a bucket."""

    bucket: Bucket
    say: Callable[[str], None]
    clock: Clock
    watched: Version | None = None
    since: float = 0.0
    is_said: bool = field(default=False)

    def take(self) -> tuple[Lock, Version, Lock | None]:
        tried: Lock | None = None
        before: Lock | None = None
        for _ in range(_LONGEST_TRIES):
            found = self.bucket.read(LOCK_NAME)
            was = None if found is None else self._decoded(found[0])
            if found is not None and was is not None and was == tried:  # it was written, and the answer was lost
                return was, found[1], before
            if was is None or found is None:
                tried, before = _lock(0, ""), None
                version = self.bucket.create(LOCK_NAME, tried.encoded())
            elif not was.is_held or was.is_over or self._has_expired(was, found[1]):
                tried, before = _lock(was.fence, was.source), was
                version = self.bucket.replace(LOCK_NAME, tried.encoded(), found[1])
            else:
                self.clock.sleep(POLL_S)
                continue
            if version is not None:
                return tried, version, before
        raise OutInUseError(f"{self.bucket.named('')}: other runs take its lock again and again; this one ends")

    def _has_expired(self, was: Lock, version: Version) -> bool:
        """Raises OutInUseError where the holder lives."""
        if was.is_alive:
            raise self._in_use(was)
        if self.watched is None:
            self.watched, self.since = version, self.clock.now()
        if self.watched.tags != version.tags:
            raise self._in_use(was)
        waited = self.clock.now() - self.since
        if waited > 2 * RENEW_S and not self.is_said:
            self.is_said = True
            self.say(
                f"note: the last run on {self.bucket.named('')} ({was.holder}) has not given it back and shows no sign "
                f"of life; this one takes it over {EXPIRES_S - waited:.0f} s from now"
            )
        return waited >= EXPIRES_S

    def _in_use(self, was: Lock) -> OutInUseError:
        return OutInUseError(
            f"{self.bucket.named('')} is in use by another run ({was.holder}; its lease lasts until "
            f"{printable(was.until)}, and it renews it). Wait for it or stop it; this one changed nothing"
        )

    def _decoded(self, data: bytes) -> Lock:
        try:
            return Lock.decoded(data)
        except ValueError:
            raise InputError(
                f"{self.bucket.named(LOCK_NAME)} is no lock of vision-batch: name another OUT, or delete it where no "
                "run is at work"
            ) from None


def take(bucket: Bucket, say: Callable[[str], None], clock: Clock | None = None) -> tuple[Lease, Lock | None]:
    """The lease of a bucket, and what the lock said before.

    Raises OutInUseError where another run holds it, InputError where the store does not keep conditions.
    """
    clock = Clock() if clock is None else clock
    lock, version, was = _Taker(bucket, say, clock).take()
    if bucket.create(LOCK_NAME, b"{}") is not None:
        bucket.delete([LOCK_NAME])
        raise InputError(
            f"{bucket.named('')}: this store ignores conditions of writes (If-None-Match), which a lock needs. Name "
            "an OUT on a disk, or another store"
        )
    return Lease(bucket, lock, version, clock), was


def _lock(fence: int, source: str) -> Lock:
    return Lock(
        fence=fence + 1, source=source, host=socket.gethostname(), pid=os.getpid(), machine=machine(), until=_until(),
        renewed_s=since_boot(),
    )  # fmt: skip


def _until() -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=EXPIRES_S):%Y-%m-%dT%H:%M:%SZ}"
