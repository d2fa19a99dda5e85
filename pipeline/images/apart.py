"""Prepares one file in a process of its own, which may crash or hang: for images that have ended a run before."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import orjson
from pydantic import TypeAdapter

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind, ResourceError
from pipeline.images.frames import Prepared
from pipeline.records import Failure, ImageFacts, PreparedImage
from pipeline.tokens.presizing import Target

_START: Final = """
import sys, types
sys.modules["pipeline"] = package = types.ModuleType("pipeline")
package.__path__ = [sys.argv[1]]
from pipeline.images.apart_child import main
main()
"""
"""The package without what `import pipeline` offers: a quarter of a second instead of one."""
_PACKAGE: Final = Path(__file__).parents[1]
_KEPT: Final = frozenset(
    {"PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR"}
)
"""What the process sees of the environment: no key, whatever its name is."""
_FACTS: Final = TypeAdapter(ImageFacts)
_PLACES: Final = threading.BoundedSemaphore(min(os.cpu_count() or 1, 4))
"""For the processes: after a kill of a run with many threads each of them has a suspect."""


def prepare_apart(data: bytes, rule: Target, config: ImagesConfig) -> Prepared:
    """As `prepare_images`. A process that crashes, or takes longer than an image may, becomes a Failure.

    Raises ResourceError where no process can be started.
    """
    with _PLACES:
        return _prepared(data, rule, config)


def _prepared(data: bytes, rule: Target, config: ImagesConfig) -> Prepared:
    environment = {name: value for name, value in os.environ.items() if name in _KEPT}
    try:
        # A session of its own: Ctrl-C is for the run.
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-P", "-c", _START, str(_PACKAGE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ResourceError(f"cannot start a process to decode an image in: {error.strerror}") from None
    with child:
        try:
            # It is our own input that the other side unpickles; what it answers is read as JSON and bytes.
            answer, _ = child.communicate(pickle.dumps((data, rule, config)), config.decode_timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            return _crashed(f"it takes longer than {config.decode_timeout_s:g} s (images.decode_timeout_s)")
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        return _crashed(_ended_by(child.returncode))
    return _read(answer)


def _read(answer: bytes) -> Prepared:
    """What the process found. A decoder that was taken over may answer anything."""
    try:
        head, _, rest = answer.partition(b"\n")
        found = orjson.loads(head)
        if "failure" in found:
            return Failure(kind=ErrorKind(found["failure"]["kind"]), message=str(found["failure"]["message"]))
        images, at = [], 0
        for one in found["images"]:
            size = int(one.pop("bytes"))
            facts = _FACTS.validate_json(orjson.dumps(one.pop("facts")))
            images.append(PreparedImage(data=rest[at : at + size], facts=facts, **one))
            at += size
    except (ValueError, TypeError, KeyError):
        return _crashed("its answer cannot be read")
    return images if images and at == len(rest) else _crashed("its answer is incomplete")


def _crashed(why: str) -> Failure:
    return Failure(
        kind=ErrorKind.DECODER_CRASHED,
        message=f"decoding this image ended a run, or stood still, and failed in a process of its own too: {why}",
    )


def _ended_by(code: int) -> str:
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended with exit code {code}"
