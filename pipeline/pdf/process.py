"""Processes that read PDFs: started when they are needed, one for each document that is read at the same time."""

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pipeline.errors import ResourceError

MOST: Final = min(os.cpu_count() or 1, 8)
"""Processes at a time: each holds some 50 MB, and renders one page at a time."""
_SCRIPT: Final = Path(__file__).with_name("child.py")
_KEPT: Final = frozenset(
    {"PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR"}
)
"""What a child sees of the environment: no key, whatever its name is."""
_LINE_BYTES: Final = 1 << 16
_END_S: Final = 2.0


class DeadError(Exception):
    """The process ended before it answered. `signal` is the one that ended it; 0: none."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


class Process:
    """One process, asked by one thread at a time."""

    def __init__(self) -> None:
        # -P: its own folder has modules whose names must not hide others. A session of its own: Ctrl-C is for the run.
        words = [sys.executable, "-P", str(_SCRIPT)]
        environment = {name: value for name, value in os.environ.items() if name in _KEPT}
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ResourceError(f"cannot start the process that reads PDFs: {error.strerror}") from None
        self.holds: object = None
        """What names the open document."""
        self.pages = 0
        """Of the open document."""

    def ask(self, request: Mapping[str, object], data: bytes = b"", most: int = 0) -> tuple[dict[str, Any], bytes]:
        """One request, and its answer with at most this number of bytes. Raises DeadError.

        Raises ValueError, TypeError or KeyError where the answer is none: a document may have taken the process over.
        """
        source, target = self._child.stdin, self._child.stdout
        if source is None or target is None:
            raise AssertionError("a process is started with pipes")
        try:
            source.write(json.dumps({**request, "bytes": len(data)}).encode() + b"\n")
            source.write(data)
            source.flush()
            line = target.readline(_LINE_BYTES)
        except OSError:
            line = b""
        if not line:
            raise DeadError(-min(0, self._child.wait()))
        reply = json.loads(line)
        found = target.read(min(int(reply["bytes"]), most))
        if len(found) < int(reply["bytes"]):
            raise ValueError("the answer is incomplete")
        return reply, found

    def end(self) -> None:
        """Let it end, or end it."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Processes:
    """At most `most` of them. One that has the wanted document open goes first."""

    def __init__(self, most: int) -> None:
        self._idle: list[Process] = []
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(most)

    @contextmanager
    def one(self, holds: object) -> Iterator[Process]:
        """A process for the length of the block. Raises ResourceError where none can be started."""
        with self._places:
            process = self._taken(holds) or Process()
            try:
                yield process
            except BaseException:
                process.end()
                raise
            with self._lock:
                self._idle.append(process)

    def end_idle(self) -> None:
        """End those that do nothing now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def _taken(self, holds: object) -> Process | None:
        with self._lock:
            if not self._idle:
                return None
            found = next((one for one in self._idle if one.holds == holds), self._idle[0])
            self._idle.remove(found)
            return found


PROCESSES: Final = Processes(MOST)
"""Of this process; a run ends them with itself."""
atexit.register(PROCESSES.end_idle)
