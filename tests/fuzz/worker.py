"""Prepares damaged files of one format, one after the other, and counts how each ended; see tests.fuzz.run."""

import argparse
import json
import mmap
import os
import random
import resource
import struct
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.images.containers import sniff
from pipeline.images.frames import prepare_images
from pipeline.images.prepare import warm_up
from pipeline.images.probe import size_in
from pipeline.records import Failure
from pipeline.tokens.sizing import SizeRule
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import seeds

LIMIT_MB = 64
SLACK_MB = 24
"""Beside what one image may take: heaps that grow, codecs and their threads."""
MOST_ADDRESS_SPACE = 4 << 30
_CONFIGS = (
    ImagesConfig(max_decoded_mb=LIMIT_MB),
    ImagesConfig(max_decoded_mb=LIMIT_MB, verify="full"),
    ImagesConfig(max_decoded_mb=LIMIT_MB, frames=4),
    ImagesConfig(max_decoded_mb=LIMIT_MB, truncated="show"),
)
_RULES = (SizeRule(16), SizeRule(1024), SizeRule(100_000))


def damaged(kind: str, number: int) -> bytes:
    """The file of this number; always the same."""
    return mutated(random.Random(f"{kind} {number}"), seeds(kind))


def ended(data: bytes, number: int) -> str:
    """How preparing a file ends. Whatever is raised is a bug of ours, as is a picture that cannot be opened."""
    size_in(data)
    found = prepare_images(data, _RULES[number % 3], _CONFIGS[number % 4], lambda _: nullcontext())
    if isinstance(found, Failure):
        if not found.message.isprintable() or not found.message:
            raise ValueError(f"a message that is no line: {found.message!r}")
        return found.kind.value
    for image in found:
        if sniff(image.data) is None or image.facts.sent_size is None:
            raise ValueError("what is sent is no picture")
    return "decoded"


def most_memory_mb() -> float:
    """Of this process, at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Writes what happened to a file after each hundred, and the number of the file at work to another, always."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("start", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("at", type=Path)
    wanted = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    warm_up()
    for data in seeds(wanted.kind):  # libraries are loaded, heaps have grown
        ended(data, 0)
    with Path(wanted.at).open("r+b") as file, mmap.mmap(file.fileno(), 16) as place:
        _work(wanted.kind, wanted.start, wanted.end, place)


def _work(kind: str, start: int, end: int, place: mmap.mmap) -> None:
    ends: Counter[str] = Counter()
    bugs: list[Any] = []
    before, slowest = most_memory_mb(), (0.0, -1)
    peak = before
    for number in range(start, end):
        place[:16] = struct.pack("<qd", number, time.monotonic())
        data, began = damaged(kind, number), time.monotonic()
        try:
            ends[ended(data, number)] += 1
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            bugs.append((number, f"{type(error).__name__}: {error}"))
        slowest = max(slowest, (time.monotonic() - began, number))
        if (now := most_memory_mb()) > peak:
            if now - before > LIMIT_MB + SLACK_MB:
                bugs.append((number, f"memory: {now - before:.0f} MB"))
                before = now
            peak = now
        if (number + 1) % 100 == 0 or number + 1 == end:
            line = {"next": number + 1, "ends": ends, "bugs": bugs, "slowest": slowest, "peak": peak}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    place[:8] = struct.pack("<q", end)


if __name__ == "__main__":
    Image.init()
    main()
    os._exit(0)
