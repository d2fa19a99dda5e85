"""One turn: one client does one work once, in a process of its own, beside an endpoint that counts what arrives.

What a turn found is kept in a file as soon as it ends, so that a stopped benchmark goes on where it was.
"""

import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from common import HERE, JOB_TIMEOUT_S, endpoint
from environments import Client, NotInstalledError, python_of
from harness import MODEL, PROMPT, Measured
from processes import FailedError, kill_tree, run, started

import pipeline
from pipeline.emulator.child import child_emulator

RPM = 600


@dataclass(frozen=True, slots=True)
class Work:
    """What all clients do alike."""

    name: str
    title: str
    large: bool
    """12-megapixel photographs, instead of small JPEGs."""
    count: int
    slots: int
    latency_ms: int = 0
    kind: str = "speed"
    """speed, bill, limit or kill."""


WORKS = (
    Work("photos-64", "12-megapixel JPEGs, answered at once, 64 slots", large=True, count=64, slots=64),
    Work("small-64", "JPEGs of 75 KB sent as they are, answered at once, 64 slots", large=False, count=1500, slots=64),
    Work(
        "small-256", "JPEGs of 75 KB sent as they are, answered at once, 256 slots", large=False, count=1500, slots=256
    ),
    Work(
        "slow-256",
        "JPEGs of 75 KB sent as they are, answers after 200 ms, 256 slots",
        large=False,
        count=1500,
        slots=256,
        latency_ms=200,
    ),
    Work("bill", "what 12-megapixel JPEGs cost", large=True, count=16, slots=8, kind="bill"),
    Work("limit", f"an endpoint that grants {RPM} requests a minute", large=False, count=200, slots=32, kind="limit"),
    Work("kill", "kill -9 half way, then once more", large=False, count=200, slots=16, latency_ms=200, kind="kill"),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn found."""

    client: str
    work: str
    turn: int
    count: int
    digest: str
    """Of the client's code: a turn of other code counts no more."""
    when: str
    load: float
    """The machine's load average when it began."""
    measured: Measured | None = None
    requests: int = 0
    sent_bytes: int = 0
    found: dict[str, float] = field(default_factory=dict)
    problem: str | None = None

    @property
    def key(self) -> tuple[str, str, int, int, str]:
        return self.client, self.work, self.turn, self.count, self.digest


class Results:
    """The turns that were taken, in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.turns: dict[tuple[str, str, int, int, str], Turn] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                turn = read_turn(json.loads(line))
                self.turns[turn.key] = turn

    def keep(self, turn: Turn) -> None:
        self.turns[turn.key] = turn
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(turn)) + "\n")


def read_turn(row: dict[str, Any]) -> Turn:
    found = row.pop("measured")
    return Turn(**row, measured=Measured(**found) if found else None)


def take(client: Client, work: Work, turn: int, folder: Path, cache: Path | None) -> Turn:
    facts: dict[str, Any] = {
        "client": client.name,
        "work": work.name,
        "turn": turn,
        "count": work.count,
        "digest": client.digest(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
    }
    try:
        script = [str(python_of(client, cache)), str(HERE / client.script), str(folder)]
        with tempfile.TemporaryDirectory() as scratch:
            return Turn(**facts, **KINDS[work.kind](Job(client, work, script, folder, Path(scratch) / "out")))
    except (NotInstalledError, FailedError) as error:
        return Turn(**facts, problem=str(error)[:200])


@dataclass(frozen=True, slots=True)
class Job:
    """A client's share of a work."""

    client: Client
    work: Work
    script: list[str]
    folder: Path
    out: Path

    def command(self, url: str, *more: str) -> list[str]:
        sizes = () if self.work.large else ("--no-resize",)
        return [
            *self.script,
            str(self.out),
            url,
            "--slots",
            str(self.work.slots),
            *sizes,
            *self.client.arguments,
            *more,
        ]


def stats_of(url: str, path: str) -> dict[str, Any]:
    with urlopen(f"{url.removesuffix('/v1')}/{path}", timeout=10) as response:  # noqa: S310 - loopback
        stats: dict[str, Any] = json.load(response)
    return stats


def _speed(job: Job) -> Mapping[str, Any]:
    with endpoint(1, job.work.latency_ms) as url:
        result = run(job.command(url))
        stats = stats_of(url, "stats")
    if result.images != job.work.count:
        raise FailedError(f"{result.images} of {job.work.count} images were answered")
    sizes = [path.stat().st_size for path in job.folder.iterdir()]
    found = {"file_kb": sum(sizes) / len(sizes) / 1000}
    return {"measured": result, "requests": stats["requests"], "sent_bytes": stats["bytes"], "found": found}


def _bill(job: Job) -> Mapping[str, Any]:
    """The emulator bills what it is sent by the vendor's published rule."""
    with child_emulator() as url:
        result = run(job.command(url))
        stats = stats_of(url, "emulator/stats")
    if result.images != job.work.count:
        raise FailedError(f"{result.images} of {job.work.count} images were answered")
    found = {"tokens": stats["prompt_tokens"]}
    if job.client.name == "ours":
        estimate = pipeline.estimate(job.folder, models=[MODEL], prompt=PROMPT)
        found["estimated"] = estimate.models[0].input_tokens.expected
    return {"measured": result, "requests": stats["requests"], "found": found}


def _limit(job: Job) -> Mapping[str, Any]:
    with child_emulator(["--fast", "--rpm", str(RPM), "--burst", "5", "--latency-ms", "100"]) as url:
        result = run(job.command(url, "--rpm", str(RPM)))
        stats = stats_of(url, "emulator/stats")
    found = {"refused": stats["rate_limited"], "failed": job.work.count - result.images}
    return {"measured": result, "requests": stats["requests"], "found": found}


def _kill(job: Job) -> Mapping[str, Any]:
    """Killed when half is answered, and run again with the same line: what is answered twice is paid twice."""
    with child_emulator(["--fast", "--latency-ms", str(job.work.latency_ms)]) as url:
        with started(job.command(url)) as first:
            deadline = time.monotonic() + JOB_TIMEOUT_S
            while stats_of(url, "emulator/stats")["answered"] < job.work.count // 2:
                if first.poll() is not None or time.monotonic() > deadline:
                    raise FailedError("it ended before it could be killed")
                time.sleep(0.02)
            kill_tree(first)
        result = run(job.command(url))
        stats = stats_of(url, "emulator/stats")
    found = {"repaid": stats["answered"] - job.work.count}
    return {"measured": result, "requests": stats["requests"], "found": found}


KINDS = {"speed": _speed, "bill": _bill, "limit": _limit, "kill": _kill}
