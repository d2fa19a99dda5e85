"""How a source is divided on a cluster, and how far that is: `OUT/shards/`, there as long as that is unfinished.

Each shard is an output directory of its own, `OUT/shards/00007`. A shard that is done is merged into OUT, and then its
folder is deleted; `plan.json` says so in between, so that every step may be done again. What OUT had answered before
is in `answered.keys`: no shard asks it.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from pipeline import files
from pipeline.commands.merge import merge
from pipeline.errors import OutInUseError, ResourceError
from pipeline.files import disk_errors
from pipeline.limits.budget import Amounts
from pipeline.store.keyset import KeySet
from pipeline.store.opening import JOINED_NAME, LEDGER_NAME, MERGE_NAME, SHARDS_NAME, check_out

_PLAN, _LOCK, _KEYS, _GRANTED = "plan.json", "lock", "answered.keys", "granted.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What was begun, and which shards are done."""

    config_hash: str
    rerun: str
    """Which rows of OUT are asked again."""
    sources: str
    """A digest of their names, which may hold signatures."""
    shards: int
    spent_before: Amounts
    """By all runs on OUT, before this one."""
    merged: Mapping[int, int] = field(default_factory=dict)
    """Shards that are done and in OUT, and how many rows each came to."""
    merging: Mapping[int, int] = field(default_factory=dict)
    """The same of shards whose merge has begun."""
    is_partial: bool = False
    """Whether that merge takes what unfinished shards have; they go on after it."""

    def continues(self, other: "Plan") -> bool:
        """Whether both are of the same command, whatever has become of it."""
        names = ("config_hash", "rerun", "sources")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """As `plan.json` holds it."""
        return cls(
            **{
                **values,
                "spent_before": Amounts(**values["spent_before"]),
                "merged": {int(index): rows for index, rows in values["merged"].items()},
                "merging": {int(index): rows for index, rows in values["merging"].items()},
            }
        )


@dataclass(slots=True)
class ShardsFolder:
    """`OUT/shards`, held by one command."""

    out: Path
    plan: Plan | None = field(default=None, init=False)
    """The unfinished one."""

    @property
    def path(self) -> Path:
        return self.out / SHARDS_NAME

    @property
    def keys(self) -> Path:
        return self.path / _KEYS

    @property
    def granted(self) -> Path:
        """What of the budget each shard was given."""
        return self.path / _GRANTED

    def shard(self, index: int) -> Path:
        return self.path / f"{index:05}"

    @classmethod
    @contextmanager
    def held(cls, out: Path) -> Iterator[Self]:
        """Hold it, made where it is not there. A merge that was interrupted is completed first.

        Raises OutInUseError where another command holds it.
        """
        folder, is_new = cls(out), not out.exists()
        with disk_errors(out):
            check_out(out) if not (out / MERGE_NAME).exists() else None
            folder.path.mkdir(parents=True, exist_ok=True)
            with _locked(folder.path / _LOCK, out):
                folder.plan = folder._read()
                folder._go_on()
                try:
                    yield folder
                finally:
                    if folder.plan is None:
                        shutil.rmtree(folder.path, ignore_errors=True)
                    if is_new:
                        with suppress(OSError):  # it is in use
                            out.rmdir()

    def _read(self) -> Plan | None:
        path = self.path / _PLAN
        if not path.is_file():
            return None
        try:
            return Plan.of(orjson.loads(files.read(path)))
        except (ValueError, TypeError, KeyError) as error:
            raise ResourceError(
                f"{path} cannot be read ({error}). The answers are in the folders beside it: `vision-batch merge "
                f"{self.path}/[0-9]* -o OTHER` joins them in another OUT"
            ) from None

    def begin(self, plan: Plan, answered: KeySet) -> None:
        """Start with nothing done. `answered`: the keys that no shard asks."""
        files.write_atomic(self.keys, answered.tobytes(), durable=True)
        self._write(plan)

    def _write(self, plan: Plan) -> None:
        self.plan = plan
        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        files.write_atomic(self.path / _PLAN, orjson.dumps(asdict(plan), option=options), durable=True)

    def undone(self) -> list[int]:
        plan = self._begun()
        return [index for index in range(plan.shards) if index not in plan.merged]

    def merge(self, rows: Mapping[int, int], *, partial: bool = False) -> None:
        """Take shards, with the number of their rows, into OUT. They are deleted then; with `partial` they go on."""
        self._write(replace(self._begun(), merging=rows, is_partial=partial))
        outs = [self.shard(index) for index in rows if (self.shard(index) / LEDGER_NAME).is_file()]
        if outs:
            merge(outs, self.out, now=datetime.now(UTC), on_config_change="keep")
        plan = replace(self._begun(), merging={}, is_partial=False)
        self._write(plan if partial else replace(plan, merged={**plan.merged, **rows}))
        for index in rows:
            if partial:
                (self.shard(index) / JOINED_NAME).touch()
            else:
                shutil.rmtree(self.shard(index), ignore_errors=True)

    def mark_done(self) -> None:
        """OUT lacks nothing: no shard begins."""
        plan = self._begun()
        self._write(replace(plan, merged=dict.fromkeys(range(plan.shards), 0)))

    def begun(self) -> list[int]:
        """The shards that have a ledger."""
        return [int(path.parent.name) for path in sorted(self.path.glob(f"[0-9]*/{LEDGER_NAME}"))]

    def absorb(self) -> int:
        """Take everything that there is into OUT, and forget the plan; the number of shards that had answers."""
        there = self.begun()
        if there and self.plan is not None:
            self.merge(dict.fromkeys(there, 0))
        self.plan = None
        (self.path / _PLAN).unlink(missing_ok=True)
        return len(there)

    def finish(self) -> None:
        """All is done: OUT is like any other."""
        (self.path / _PLAN).unlink()
        self.plan = None

    def _go_on(self) -> None:
        plan = self.plan
        if plan is None:
            return
        if plan.merging or (self.out / MERGE_NAME).exists():
            self.merge(plan.merging, partial=plan.is_partial)
        for index in plan.merged:
            shutil.rmtree(self.shard(index), ignore_errors=True)

    def _begun(self) -> Plan:
        if self.plan is None:
            raise RuntimeError("no plan")
        return self.plan


def absorb_shards(out: Path, say: Callable[[str], None] | None) -> None:
    """Take into OUT what an interrupted run on a cluster left, so that any run goes on with it.

    Raises OutInUseError where such a run is at work.
    """
    if not (out / SHARDS_NAME / _PLAN).is_file():
        return
    with ShardsFolder.held(out) as folder:
        shards = folder.absorb()
    if shards and say is not None:
        say(f"joined what {shards:,} shards of a run on a cluster had answered")


@contextmanager
def _locked(path: Path, out: Path) -> Iterator[None]:
    """Hold a file against other commands; a process that dies lets go of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OutInUseError(
            f"{out}: a run on a cluster is at work on it. Wait for it, or stop it; nothing was sent or changed"
        ) from None
    except OSError:
        pass  # its file system has no such lock; the ledgers are locked all the same
    try:
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
