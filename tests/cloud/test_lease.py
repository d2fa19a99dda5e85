"""The lock of an OUT in a bucket: a store in memory that keeps conditions, and clocks of our own."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from obstore.store import MemoryStore

from pipeline.buckets import lease as leases
from pipeline.buckets.lease import EXPIRES_S, LOCK_NAME, RENEW_S, SAFE_S, Clock, Lock, machine, since_boot, take
from pipeline.cloud.bucket import Bucket, Version
from pipeline.cloud.stores import ObjectAddress
from pipeline.errors import BucketError, InputError, LeaseLostError, OutInUseError
from tests import warm


class Time:
    """A clock that goes on when it is slept by."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.now, self.meanwhile = 1000.0, meanwhile

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, wall=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket(ObjectAddress("s3", "bucket", "out"), store=MemoryStore())


def stored(bucket: Bucket) -> Lock:
    found = bucket.read(LOCK_NAME)
    assert found is not None
    return Lock.decoded(found[0])


def store(bucket: Bucket, **changes: Any) -> None:
    """The lock as another machine has written it."""
    lock = Lock(fence=7, source="x", host="other", pid=12, machine="", until="2026-11-22T10:00:00Z")
    bucket.write(LOCK_NAME, dataclasses.replace(lock, **changes).encoded())


def test_given_back_and_taken_again(bucket: Bucket) -> None:
    """The number grows, what the contents come from stays; while it is held another run here is refused at once."""
    first, before = take(bucket, pytest.fail)
    assert (first.fence, before, stored(bucket).source) == (1, None, "")
    first.name_source("one")
    with pytest.raises(OutInUseError, match=r"s3://bucket/out is in use by another run \(host .*, pid \d+; .* until"):
        take(bucket, pytest.fail)
    first.release()
    second, before = take(bucket, pytest.fail)
    assert before is not None
    assert (second.fence, before.is_held, before.source, stored(bucket).source) == (2, False, "one", "one")
    second.release()


def test_a_holder_elsewhere_that_lives(bucket: Bucket) -> None:
    """It renews while it is watched: one line that names host, pid and time, and nothing else."""
    store(bucket)
    time = Time(lambda: store(bucket, renewals=int((time.now - 1000.0) // RENEW_S)))
    with pytest.raises(OutInUseError, match=r"host other, pid 12; its lease lasts until 2026-11-22T10:00:00Z"):
        take(bucket, pytest.fail, time.clock)
    assert time.now - 1000.0 <= RENEW_S + 1


def test_a_holder_elsewhere_that_does_not(bucket: Bucket) -> None:
    """After a minute without a sign of life its lease is taken over; a note says so in time."""
    store(bucket, until="2099-01-01T00:00:00Z")
    time, said = Time(), list[str]()
    lease, before = take(bucket, said.append, time.clock)
    assert (lease.fence, before and before.source, stored(bucket).source) == (8, "x", "x")
    assert EXPIRES_S <= time.now - 1000.0 <= EXPIRES_S + 2
    assert len(said) == 1
    assert "(host other, pid 12) has not given it back" in said[0]
    lease.release()


@pytest.mark.skipif(not machine(), reason="this system does not tell which process is which")
def test_a_process_of_this_machine_that_has_ended(bucket: Bucket) -> None:
    """Its lease is free at once, and not that of a process which lives; a pid that is used again is another process."""
    code = "from pipeline.buckets.lease import machine; import os; print(os.getpid(), machine())"
    done = warm.run(["-c", code])
    pid, _, named = done.stdout.strip().partition(" ")
    store(bucket, pid=int(pid), machine=named)
    lease, before = take(bucket, pytest.fail)
    assert before is not None
    assert before.is_over
    lease.release()
    alive = Lock(fence=1, source="", host="", pid=lease.lock.pid, machine=machine(), until="")
    assert (alive.is_alive, alive.is_over) == (True, False)
    assert dataclasses.replace(alive, renewed_s=since_boot() - EXPIRES_S).is_over
    assert not dataclasses.replace(alive, renewed_s=since_boot() - EXPIRES_S + 5).is_over
    began_before = dataclasses.replace(alive, machine=machine().rpartition(" ")[0] + " 1")
    assert (began_before.is_alive, began_before.is_over) == (False, True)
    elsewhere = dataclasses.replace(alive, machine="other pid:[1] 1")
    assert (elsewhere.is_alive, elsewhere.is_over) == (False, False)


@pytest.mark.parametrize("slept", [SAFE_S - 1, SAFE_S + 1])
def test_a_lease_that_was_taken_over(bucket: Bucket, slept: float) -> None:
    """Before it uploads anything after a pause a run asks; having lost it once it never uploads again."""
    time = Time()
    lease, _ = take(bucket, pytest.fail, time.clock)
    store(bucket, fence=2)
    time.now += slept
    if slept < SAFE_S:
        lease.check()  # no other run could have taken it over by now
        time.now += SAFE_S
    for _ in range(2):
        with pytest.raises(LeaseLostError, match=r"taken over by another run \(host other, pid 12\)"):
            lease.check()
    lease.release()
    assert stored(bucket).host == "other"


def test_a_lease_whose_lock_is_deleted(bucket: Bucket) -> None:
    lease, _ = take(bucket, pytest.fail)
    bucket.delete([LOCK_NAME])
    with pytest.raises(LeaseLostError, match=r"out/lock\.json is gone"):
        lease.renew()
    lease.release()


def test_an_answer_of_the_store_that_was_lost(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that came through, and whose repetition is refused, is no other run's."""
    replace = Bucket.replace

    def twice(self: Bucket, name: str, data: bytes, version: Version) -> Version | None:
        replace(self, name, data, version)
        return replace(self, name, data, version)

    lease, _ = take(bucket, pytest.fail)
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "replace", twice)
        with pytest.raises(BucketError, match="changes all the time"):
            lease.renew()
    lease.renew()
    create = Bucket.create
    lease.release()
    bucket.delete([LOCK_NAME])

    def lost(self: Bucket, name: str, data: bytes) -> Version | None:
        create(self, name, data)
        return None

    monkeypatch.setattr(Bucket, "create", lost)
    monkeypatch.setattr(leases, "POLL_S", 0.0)
    lease, before = take(bucket, pytest.fail)
    assert (lease.fence, before) == (1, None)
    lease.release()


def test_stores_and_locks_that_are_none(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that writes whatever the condition; an object of the lock's name that is something else."""
    for data in (b"", b"[]", b"{}", b'{"fence": "x"}', b"null"):
        bucket.write(LOCK_NAME, data)
        with pytest.raises(InputError, match=r"s3://bucket/out/lock\.json is no lock of vision-batch"):
            take(bucket, pytest.fail)
    bucket.delete([LOCK_NAME])
    monkeypatch.setattr(Bucket, "create", Bucket.write)
    with pytest.raises(InputError, match="ignores conditions of writes"):
        take(bucket, pytest.fail)
