"""Mutated videos in a process of their own: each ends as images or as a failure, soon and in little memory.

`VISION_BATCH_FUZZ=20000` runs the long form.
"""

import json
import os
import subprocess
import sys

from tests.support import ROOT
from tests.videos import pyav

MUTATIONS = int(os.environ.get("VISION_BATCH_FUZZ", "200"))
SLOWEST_S, MOST_MB = 10.0, 512

FUZZ = """
import json, random, sys, time
from contextlib import nullcontext
from pipeline.config.images import ImagesConfig
from pipeline.images.frames import prepare_images
from pipeline.images.probe import size_in
from pipeline.images.sampling import Sampling
from pipeline.images.prepare import warm_up
from pipeline.tokens.sizing import SizeRule
from tests.videos import video

def mutated(data, rng):
    data = bytearray(data)
    marks = (b"moov", b"trak", b"stbl", b"elst", bytes.fromhex("1654ae6b"))
    head = [at for mark in marks if (at := data.find(mark)) >= 0]
    for _ in range(rng.choice((1, 2, 8, 40))):
        near = rng.choice(head) + rng.randrange(600) if head and rng.random() < 0.6 else rng.randrange(len(data))
        at = min(near, len(data) - 1)
        match rng.randrange(5):
            case 0: data[at] ^= 1 << rng.randrange(8)
            case 1: data[at:at + 4] = rng.choice((b"\\xff" * 4, b"\\0" * 4, b"\\x7f\\xff\\xff\\xff", rng.randbytes(4)))
            case 2: del data[at:at + rng.randrange(1, 64)]
            case 3: data[at:at] = data[rng.randrange(len(data)):][:rng.randrange(1, 200)]
            case 4: data[at] = rng.randrange(256)
        if not data: data = bytearray(b"\\0")
    return bytes(data[:rng.randrange(len(data))] if rng.random() < 0.1 else data)

warm_up()
kinds, slowest = {}, 0.0
files = [video(), video("mov", "mjpeg"), video("webm", "libvpx"), video("matroska", sound=True)]
files.append(video("mp4", "mpeg4", sound=True))
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    rng = random.Random(seed)
    data = mutated(rng.choice(files), rng)
    print(seed, file=sys.stderr, flush=True)
    began = time.monotonic()
    found = prepare_images(data, SizeRule(64), ImagesConfig(frames=rng.choice((1, 3))), lambda _: nullcontext())
    size_in(data, Sampling(3))
    slowest = max(slowest, time.monotonic() - began)
    kind = getattr(found, "kind", "images")
    kinds[kind] = kinds.get(kind, 0) + 1
lines = open("/proc/self/status").read().splitlines()
peak_mb = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps([slowest, peak_mb, kinds]))
"""


def test_mutated_videos() -> None:
    """No crash, no hang, no flood of memory, and nothing on the terminal."""
    pyav()
    run = subprocess.run(
        [sys.executable, "-c", FUZZ, "0", str(MUTATIONS)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100 + MUTATIONS,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, f"after seed {run.stderr[-2000:]}"
    assert all(line.isdecimal() for line in run.stderr.split()), "FFmpeg writes to the terminal"
    slowest_s, peak_mb, kinds = json.loads(run.stdout)
    assert slowest_s < SLOWEST_S
    assert peak_mb < MOST_MB
    assert sum(kinds.values()) == MUTATIONS
    assert {"images", "image_truncated", "image_unreadable"} <= set(kinds), kinds
