"""Processes of their own that start warm: forked from one that has imported the package already.

A Python process takes most of a second to import what a command needs. `run` is `subprocess.run` of this Python in a
twentieth of that: for tests of what a process does, not of how it starts.
"""

import atexit
import faulthandler
import json
import os
import runpy
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from select import select
from tempfile import TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).parents[1]
MODULES = (
    *(f"pipeline.cli.{name}" for name in ("run", "estimate", "models", "status", "rebuild", "compact", "check")),
    *(f"pipeline.cli.{name}" for name in ("report", "view", "export", "merge")),
    *("pipeline.api", "pipeline.commands.compact", "pipeline.run.run", "pipeline.store.dataset"),
    *("aiohttp", "genai_prices", "pandas", "pyarrow.dataset", "pyarrow.parquet"),
)
_lock = threading.Lock()
_server: subprocess.Popen[str] | None = None


def run(
    arguments: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    imports: Sequence[str] = (),
    timeout: float = 100.0,
) -> "subprocess.CompletedProcess[str]":
    """Run Python with these arguments, `-m MODULE ...` or `-c CODE ...`; `imports` are needed beside the package.

    Raises subprocess.TimeoutExpired.
    """
    words = [str(argument) for argument in arguments]
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin.encode())
        given.flush()
        files = [given.fileno(), out.fileno(), err.fileno()]
        code = _answer({**_job(words, cwd, env, files), "imports": list(imports), "timeout": timeout})
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess([sys.executable, *words], code, _text(out), _text(err))


class Running:
    """A process that goes on beside the test, as `subprocess.Popen` with its output in pipes of text."""

    def __init__(self, arguments: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str]) -> None:
        self.args = [str(argument) for argument in arguments]
        self.returncode: int | None = None
        self._files = TemporaryFile(), TemporaryFile(), TemporaryFile()  # noqa: SIM115 - the process has to open them
        files = [file.fileno() for file in self._files]
        self.pid: int = _answer({**_job(self.args, cwd, env, files), "is_left": True})

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _answer({"poll": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)

    def communicate(self, timeout: float = 100.0) -> tuple[str, str]:
        """Raises subprocess.TimeoutExpired."""
        if self.poll() is None:
            ended = os.pidfd_open(self.pid)
            has_ended, _, _ = select([ended], [], [], timeout)
            os.close(ended)
            if not has_ended:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.poll()
        given, out, err = self._files
        with given, out, err:
            return _text(out), _text(err)


def _job(words: list[str], cwd: Path | None, env: Mapping[str, str] | None, files: list[int]) -> dict[str, Any]:
    place, environ = str(cwd or Path.cwd()), dict(os.environ if env is None else env)
    return {"arguments": words, "cwd": place, "env": environ, "imports": [], "pid": os.getpid(), "files": files}


def _answer(job: Mapping[str, Any]) -> Any:
    with _lock:
        server = _started()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
    assert answer, "the process that starts others has ended"
    return json.loads(answer)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


def _started() -> "subprocess.Popen[str]":
    global _server  # noqa: PLW0603 - one a test process
    if _server is None or _server.poll() is not None:
        # Threads of a numerical library would not survive the fork.
        environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        _server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True,
            cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        atexit.register(_end, _server)
    return _server


def _end(server: "subprocess.Popen[str]") -> None:
    for pipe in (server.stdin, server.stdout):
        assert pipe is not None
        pipe.close()
    server.wait()


def serve() -> None:
    """Fork for every line on standard input; a line with its exit code on standard output.

    A process that is left to go on is answered by its pid, and asked for by it later.
    """
    jobs, ended = os.fdopen(os.dup(0), closefd=True), os.fdopen(os.dup(1), "w", closefd=True)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    for name in MODULES:
        import_module(name)
    for line in jobs:
        job = json.loads(line)
        if "poll" in job:
            pid, status = os.waitpid(job["poll"], os.WNOHANG)
            _write(ended, os.waitstatus_to_exitcode(status) if pid else None)
            continue
        for name in job["imports"]:
            import_module(name)
        child = os.fork()
        if child == 0:
            os.close(jobs.fileno())
            os.close(ended.fileno())
            _exit_with(_code_of(job))
        _write(ended, child if "is_left" in job else _waited(child, job["timeout"]))


def _write(file: IO[str], answer: int | None) -> None:
    file.write(f"{json.dumps(answer)}\n")
    file.flush()


def _waited(child: int, timeout: float) -> int | None:
    """The exit code; None where it took too long."""
    ends = threading.Timer(timeout, os.kill, (child, 9))
    ends.start()
    _, status = os.waitpid(child, 0)
    is_late = not ends.is_alive()
    ends.cancel()
    ends.join()  # no thread may be there at the next fork
    return None if is_late else os.waitstatus_to_exitcode(status)


def _code_of(job: Mapping[str, Any]) -> int:
    """Become the process that is asked for."""
    for descriptor, file in enumerate(job["files"]):  # of the process that asks, which waits for the answer
        opened = os.open(f"/proc/{job['pid']}/fd/{file}", os.O_WRONLY | os.O_APPEND if descriptor else os.O_RDONLY)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    faulthandler.enable()
    how, what, *arguments = job["arguments"]
    sys.path.insert(0, "")
    try:
        if how == "-m":
            sys.argv = [what, *arguments]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv = [how, *arguments]
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as python -c does
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)  # noqa: T201 - as Python does
        return 1
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
        return 1
    return 0


def _exit_with(code: int) -> None:
    """End as Python ends: threads first, then what is registered for the end."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    serve()
