"""Adaptive concurrency beside the best fixed number, on a server of 8 slots and on one of 256, from the same defaults.

    python benchmarks/concurrency.py [--seconds 60] [--thrash 0.5] [--queue 0] [--cache DIR]

The servers slow down beyond their knee (`--thrash`), or refuse what cannot wait (`--queue`: 429, no time told).
What counts is answers a second from the twentieth second on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from common import HERE, PROMPT, cache_dir, draw_jpegs, rows_over
from rate_limits import IMAGES, SIZE

from pipeline.emulator.child import child_emulator

SETTLED_S = 20
SERVERS = {8: 200, 256: 1000}
"""Slots, and how long they work on one request (ms)."""


def per_s(timeline: list[dict[str, int]], seconds: int) -> float:
    """Requests let in a second, once settled."""
    began = min(second["second"] for second in timeline)
    late = [one["requests"] for one in timeline if SETTLED_S <= one["second"] - began < seconds - 1]
    return sum(late) / (seconds - 1 - SETTLED_S)


def measure(slots: int, concurrency: str, options: argparse.Namespace, folder: Path) -> tuple[float, int, int]:
    """(answers a second, the most that were in flight, 429s)."""
    arguments = ["--fast", "--slots", str(slots), "--latency-ms", str(SERVERS[slots]), "--thrash", str(options.thrash)]
    arguments += [] if options.queue is None else ["--queue", str(options.queue)]
    with child_emulator(arguments) as url, tempfile.TemporaryDirectory() as work:
        rows = rows_over(folder, 400 * options.seconds, Path(work) / "rows.jsonl")
        command = [
            *(sys.executable, "-m", "pipeline", "run", str(rows), "-o", f"{work}/out", "--base-url", url, "--no-dedup"),
            *("--model", "gpt-4o", "--prompt", PROMPT, "--max-time", f"{options.seconds}s", "-q"),
            *("--concurrency", concurrency),
        ]
        subprocess.run(command, cwd=HERE.parent, capture_output=True, check=False)
        with urlopen(f"{url.removesuffix('/v1')}/emulator/stats", timeout=10) as response:  # noqa: S310 - loopback
            stats: dict[str, Any] = json.load(response)
    return per_s(stats["timeline"], options.seconds), stats["peak_concurrency"], stats["rate_limited"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--thrash", type=float, default=0.5)
    parser.add_argument("--queue", type=int)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    folder = draw_jpegs(cache_dir(options.cache) / "small", IMAGES, SIZE, quality=80)
    print("| server | concurrency | answers/s from 20 s on | peak in flight | 429s | of the best fixed |")
    print("|---|---|---|---|---|---|")
    for slots in SERVERS:
        fixed = {
            number: measure(slots, str(number), options, folder) for number in (slots, slots + max(1, slots // 16))
        }
        best = max(rate for rate, _, _ in fixed.values())
        found = {str(number): result for number, result in fixed.items()} | {
            "auto": measure(slots, "auto", options, folder)
        }
        for name, (rate, peak, refused) in found.items():
            print(f"| {slots} slots | {name} | {rate:.1f} | {peak} | {refused} | {rate / best:.1%} |", flush=True)


if __name__ == "__main__":
    main()
