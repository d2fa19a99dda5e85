"""vision-batch, a bare loop and the alternatives on the same work, in rotating turns; writes docs/benchmarks.md.

    python benchmarks/bench.py [--only ours,bare,openai] [--works small-64,limit] [--turns 3] [--count N] [--minutes M]

Each alternative is installed once into an environment of its own in the cache, pinned by `clients/requirements/`.
A turn that was taken is kept, and taken anew only where the client's code has changed, or with `--fresh`.
"""

import argparse
import compileall
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from ceiling import ceiling
from common import HERE, SMALL, SMALL_QUALITY, cache_dir, draw_jpegs
from environments import CLIENTS, Client
from page import write_page
from photos12mp import photos
from turns import WORKS, Results, Turn, Work, take

AT_ONCE = 4
"""Clients that meet their own emulator side by side, in works that mostly wait."""


def pick(known: Sequence[str], wanted: str | None, option: str) -> list[str]:
    names = wanted.split(",") if wanted else list(known)
    for name in names:
        if name not in known:
            raise SystemExit(f"{option}: there is no {name!r}; there are {', '.join(known)}")
    return names


def folder_of(work: Work, cache: Path | None) -> Path:
    if work.large:
        return photos(work.count, cache)
    return draw_jpegs(cache_dir(cache) / f"small-{work.count}", work.count, SMALL, SMALL_QUALITY)


def rotated(clients: Sequence[Client], turn: int) -> list[Client]:
    """Each turn begins with another client: the one that runs first is a few percent faster, whichever it is."""
    first = turn % len(clients)
    return [*clients[first:], *clients[:first]]


def told(turn: Turn) -> str:
    if turn.measured is None:
        return f"{turn.work}, turn {turn.turn + 1}: {turn.client}: not measured: {turn.problem}"
    found = "".join(f", {name} {value:,.0f}" for name, value in turn.found.items())
    return (
        f"{turn.work}, turn {turn.turn + 1}: {turn.client}: {turn.measured.images_per_s:.1f} images/s, "
        f"{turn.measured.cpu_ms:.2f} ms of CPU, {turn.measured.peak_mb:.0f} MB{found}"
    )


class Bench:
    """The turns that are wanted, less those that were taken."""

    def __init__(self, results: Results, cache: Path | None, ends: float) -> None:
        self.results = results
        self.cache = cache
        self.ends = ends

    def turn(self, work: Work, turn: int, clients: Sequence[Client]) -> None:
        missing = [one for one in rotated(clients, turn) if not self._taken(work, turn, one)]
        if work.kind != "speed":
            missing = [one for one in missing if one.limited and turn == 0]
        if not missing:
            return
        folder = folder_of(work, self.cache)
        with ThreadPoolExecutor(AT_ONCE if work.kind in {"limit", "kill"} else 1) as pool:
            list(pool.map(partial(self._take, work, turn, folder), missing))

    def _taken(self, work: Work, turn: int, client: Client) -> bool:
        return (client.name, work.name, turn, work.count, client.digest()) in self.results.turns

    def _take(self, work: Work, turn: int, folder: Path, client: Client) -> None:
        if time.monotonic() < self.ends:
            result = take(client, work, turn, folder, self.cache)
            self.results.keep(result)
            print(told(result), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="clients: " + ", ".join(one.name for one in CLIENTS))
    parser.add_argument("--works", help="works: " + ", ".join(work.name for work in WORKS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--count", type=int, help="images in each work, instead of its own number")
    parser.add_argument("--minutes", type=float, default=600, help="begin no turn later; the next call goes on")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--fresh", action="store_true", help="forget the turns that were taken")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    names = pick([one.name for one in CLIENTS], given.only, "--only")
    clients = [one for one in CLIENTS if one.name in names]
    wanted = pick([work.name for work in WORKS], given.works, "--works")
    works = [replace(work, count=given.count or work.count) for work in WORKS if work.name in wanted]
    compileall.compile_dir(HERE.parent / "pipeline", quiet=1)
    kept = cache_dir(given.cache) / "turns.jsonl"
    if given.fresh:
        kept.unlink(missing_ok=True)
    rate = ceiling(64, 1.0)
    print(f"the endpoint itself answers {rate:,.0f} requests/s; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    bench = Bench(Results(kept), given.cache, time.monotonic() + 60 * given.minutes)
    for turn in range(given.turns):
        for work in works:
            bench.turn(work, turn, clients)
    write_page(given.page, cache_dir(given.cache), rate)
    print(f"wrote {given.page}")


if __name__ == "__main__":
    main()
