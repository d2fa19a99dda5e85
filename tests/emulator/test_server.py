"""An emulator as a process: how it starts, what it says, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.emulator.child import child_emulator
from pipeline.emulator.server import serve
from pipeline.errors import InputError, ResourceError

# What the command line does with `vision-batch emulate`, and no more.
EMULATE = """
import sys
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.server import run_forever
from pipeline.errors import VisionBatchError
port = int(sys.argv[sys.argv.index("--port") + 1])
try:
    run_forever(EmulatorConfig(rpm=120), "127.0.0.1", port, announce=print, until_eof="--until-eof" in sys.argv)
except VisionBatchError as error:
    sys.exit(str(error))
"""
COMMAND = [sys.executable, "-c", EMULATE]
ROOT = Path(__file__).parents[2]


def _start(*args: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, "--port", "0", *args], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _fetch(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 -- loopback
        answer: dict[str, object] = json.load(response)
        return answer


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(signum: signal.Signals) -> None:
    """It says where it listens, answers there, and ends at once with status 0 and not a word."""
    with _start() as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        assert url.endswith("/v1")
        assert _fetch(f"{url}/models")["object"] == "list"
        process.send_signal(signum)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_end_of_standard_input_ends_it() -> None:
    """With `until_eof` it does not outlive the process that holds the other end of its input."""
    with _start("--until-eof") as process:
        assert process.stdout is not None
        process.stdout.readline()
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


async def test_a_port_in_use_is_one_clear_line() -> None:
    """Two emulators cannot share a port; the message says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} on 127\.0\.0\.1 is in use: choose another"):
            async with serve(port=port):
                pass


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [("127.0.0.1", 70_000, "port 70000 is no port"), ("192.0.2.1", 0, "cannot listen on 192.0.2.1")],
)
async def test_an_address_that_cannot_be_had(host: str, port: int, words: str) -> None:
    """A port beyond 65535 and an address of another machine are errors of the input."""
    with pytest.raises(InputError, match=words):
        async with serve(host=host, port=port):
            pass


def test_a_child_serves_for_the_length_of_a_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The URL answers inside the block and nothing listens after it, wherever the user stands."""
    monkeypatch.chdir(tmp_path)
    with child_emulator(command=COMMAND) as url:
        assert _fetch(url.replace("/v1", "/emulator/stats"))["requests"] == 0
    with pytest.raises(OSError, match="refused"):
        _fetch(url)


def test_a_child_does_not_hear_ctrl_c() -> None:
    """It is in a session of its own: an interrupted run still gets the answers in flight."""
    says_its_session = [sys.executable, "-c", "import os; print('listening on', os.getsid(0))"]
    with child_emulator(command=says_its_session) as session_id:
        assert session_id != str(os.getsid(0))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no such option: --frob')"], "did not start: no such option"),
        ([sys.executable, "-c", "print('hello')"], "did not start: hello"),
        ([sys.executable, "-c", ""], "did not start: it said nothing"),
        (["/no/such/program"], "cannot start the emulator"),
    ],
)
def test_a_child_that_does_not_start_says_why(command: Sequence[str], words: str) -> None:
    """The error ends with the child's own last words."""
    with pytest.raises(ResourceError, match=words), child_emulator(command=command):
        pass


def test_a_child_that_stays_silent_is_given_up() -> None:
    """After the time allowed the child is asked to end, and the error names the time."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        pytest.raises(ResourceError, match=r"within 0\.2 s"),
        child_emulator(command=command, start_timeout_s=0.2),
    ):
        pass
