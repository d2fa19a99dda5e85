"""An emulator as a child process: what `--emulator` starts for the length of a run."""

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import ResourceError

_PACKAGE_PARENT = Path(__file__).parents[2]
_READY = "listening on "
_STOP_S = 5.0


@contextmanager
def child_emulator(
    args: Sequence[str] = (), *, command: Sequence[str] | None = None, start_timeout_s: float = 20.0
) -> Iterator[str]:
    """Start an emulator on a free port and yield its base URL; it ends with the block, or with this process.

    `args` are further arguments of `vision-batch emulate`; `command` replaces what they are added to.
    Raises ResourceError where it does not begin to listen in time, with its own last words.
    """
    words = [*(command or _command()), "--port", "0", "--until-eof", *args]
    with tempfile.TemporaryFile() as errors, _started(words, errors) as process:
        try:
            yield _base_url(process, errors, start_timeout_s)
        finally:
            _stop(process)


def _command() -> list[str]:
    # -P: a folder called `pipeline` where the user happens to stand must not be taken for ours.
    return [sys.executable, "-P", "-m", "pipeline", "emulate"]


def _started(words: Sequence[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 -- our own interpreter and module
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            # Ctrl-C is meant for the run: the emulator must answer what is in flight.
            start_new_session=True,
        )
    except OSError as error:
        raise ResourceError(f"cannot start the emulator ({words[0]}): {error.strerror}") from None


def _environment() -> dict[str, str]:
    if "site-packages" in _PACKAGE_PARENT.parts:
        return dict(os.environ)
    path = os.pathsep.join(filter(None, (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _base_url(process: subprocess.Popen[bytes], errors: IO[bytes], timeout_s: float) -> str:
    line = _first_line(process, timeout_s)
    if line.startswith(_READY):
        return line.removeprefix(_READY).split()[0]
    if process.poll() is None and not line:
        raise ResourceError(f"the emulator did not begin to listen within {timeout_s:g} s")
    errors.seek(0)
    words = errors.read().decode(errors="replace").strip().splitlines() or [line or "it said nothing"]
    raise ResourceError(f"the emulator did not start: {words[-1]}")


def _first_line(process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """The first line, or what there is of it when the output ends or the time is up."""
    if process.stdout is None:
        raise AssertionError("the emulator was started without a pipe for its output")
    deadline_s = time.monotonic() + timeout_s
    read = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"\n" not in read:
            if not selector.select(max(0.0, deadline_s - time.monotonic())):
                return ""
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                process.wait()
                break
            read += chunk
    return read.decode(errors="replace").partition("\n")[0].strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
