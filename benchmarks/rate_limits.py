"""How much of an endpoint's allowance is used, and how often it has to refuse, in ten minutes; each kind of limit.

    python benchmarks/rate_limits.py [--minutes 10] [--only told,headers,by-hand] [--cache DIR]

The emulator enforces 600 requests a minute, or 200,000 tokens, as a token bucket, a fixed or a sliding window.
vision-batch is told the limit, or reads it from the headers; by hand it is AsyncOpenAI with its own retries and 32
requests in flight.
All runs go on at the same time: they mostly wait.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from by_hand import caption
from common import HERE, PROMPT, cache_dir, draw_jpegs, rows_over
from openai import AsyncOpenAI, OpenAIError

from pipeline.emulator.child import child_emulator

RPM, TPM = 600, 200_000
IMAGES, SIZE = 40, (320, 240)


@dataclass(frozen=True, slots=True)
class Case:
    client: str
    """told, headers or by-hand."""
    limit: str
    """rpm or tpm."""
    kind: str

    @property
    def granted(self) -> int:
        return RPM if self.limit == "rpm" else TPM


@dataclass(frozen=True, slots=True)
class Result:
    case: Case
    used: float
    """Share of the allowance, from the second minute on."""
    worst_minute: float
    refused: int
    failed: int
    """Rows without an answer, of those that were asked."""


def measure(case: Case, folder: Path, minutes: int) -> Result:
    arguments = ["--fast", f"--{case.limit}", str(case.granted), "--limit-kind", case.kind, "--latency-ms", "100"]
    with child_emulator(arguments) as url, tempfile.TemporaryDirectory() as work:
        rows = rows_over(folder, RPM * (minutes + 2), Path(work) / "rows.jsonl")
        failed = by_hand(rows, url, minutes) if case.client == "by-hand" else ours(case, rows, url, minutes)
        with urlopen(f"{url.removesuffix('/v1')}/emulator/stats", timeout=10) as response:  # noqa: S310 - loopback
            stats = json.load(response)
    return result(case, stats, minutes, failed)


def ours(case: Case, rows: Path, url: str, minutes: int) -> int:
    command = [
        *(sys.executable, "-m", "pipeline", "run", str(rows), "-o", str(rows.parent / "out"), "--base-url", url),
        *("--no-dedup", "--model", "gpt-4o", "--prompt", PROMPT, "--max-time", f"{60 * minutes + 5}s", "--json", "-q"),
        *((f"--{case.limit}", str(case.granted)) if case.client == "told" else ()),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    summary = json.loads(done.stdout)
    return int(summary["by_status"].get("failed", 0))


def by_hand(rows: Path, url: str, minutes: int) -> int:
    return asyncio.run(_by_hand([json.loads(line)["image"] for line in rows.read_text().splitlines()], url, minutes))


async def _by_hand(images: Sequence[str], url: str, minutes: int) -> int:
    failed, remaining, ends = 0, iter(images), time.monotonic() + 60 * minutes + 5
    async with AsyncOpenAI(base_url=url, api_key="none") as client:

        async def worker() -> None:
            nonlocal failed
            for image in remaining:
                if time.monotonic() > ends:
                    return
                try:
                    await caption(client, Path(image), resize=False)
                except OpenAIError:
                    failed += 1

        await asyncio.gather(*(worker() for _ in range(32)))
    return failed


def result(case: Case, stats: dict[str, Any], minutes: int, failed: int) -> Result:
    """Whole minutes counted from the first request on."""
    unit = "requests" if case.limit == "rpm" else "tokens"
    timeline = stats["timeline"]
    began = min(second["second"] for second in timeline)
    by_minute = [0] * minutes
    for second in timeline:
        minute = (second["second"] - began) // 60
        if minute < minutes:
            by_minute[minute] += second[unit]
    shares = [used / case.granted for used in by_minute[1:]]
    return Result(case, sum(shares) / len(shares), min(shares), stats["rate_limited"], failed)


def cases(only: Sequence[str]) -> Iterator[Case]:
    for client in only:
        for limit in ("rpm", "tpm"):
            for kind in ("bucket", "fixed", "sliding"):
                if client != "by-hand" or limit == "rpm":
                    yield Case(client, limit, kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--only", default="told,headers,by-hand")
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    folder = draw_jpegs(cache_dir(options.cache) / "small", IMAGES, SIZE, quality=80)
    wanted = list(cases(options.only.split(",")))
    with ThreadPoolExecutor(len(wanted)) as pool:
        results = list(pool.map(lambda case: measure(case, folder, options.minutes), wanted))
    print("| client | limit | kind | used from the second minute on | worst minute | 429s | rows failed |")
    print("|---|---|---|---|---|---|---|")
    for one in results:
        case = one.case
        print(
            f"| {case.client} | {case.granted:,} {case.limit} | {case.kind} | {one.used:.2%} | {one.worst_minute:.2%} "
            f"| {one.refused:,} | {one.failed:,} |"
        )


if __name__ == "__main__":
    main()
