"""The process that prepares one file for `images.apart`: pickled arguments in, JSON and the images' bytes out."""

import os
import pickle
import resource
import signal
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from pipeline.config.images import ImagesConfig
from pipeline.images.frames import Prepared, prepare_images
from pipeline.records import Failure
from pipeline.tokens.presizing import Target

_SLACK_BYTES: Final = 1 << 30
"""Address space beyond what pixels take: threads of decoders reserve much and use little."""
_COPIES: Final = 2
"""Times `images.max_decoded_mb`: what is predicted, and what is not."""


def main() -> None:
    """Prepare one file, and write what was found."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data, rule, config = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the run that started this process
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints, it prints elsewhere
    with target:
        for piece in _answer(data, rule, config):
            target.write(piece)


def _answer(data: bytes, rule: Target, config: ImagesConfig) -> list[bytes]:
    _bound_memory(len(data) + _SLACK_BYTES + _COPIES * int(config.max_decoded_mb * (1 << 20)))
    found: Prepared = prepare_images(data, rule, config, lambda _: nullcontext())
    if isinstance(found, Failure):
        return [orjson.dumps({"failure": {"kind": found.kind, "message": found.message}}), b"\n"]
    images = [
        {"media_type": one.media_type, "sha256": one.sha256, "facts": asdict(one.facts), "bytes": len(one.data)}
        for one in found
    ]
    return [orjson.dumps({"images": images}), b"\n", *(one.data for one in found)]


def _bound_memory(more_bytes: int) -> None:
    """From now on allow so much more than is taken. Only Linux states what is taken."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        taken = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = taken + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
