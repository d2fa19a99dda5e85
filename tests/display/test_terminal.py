"""Real terminals: a run is driven in tmux, with warnings, pauses and Ctrl-C, and no line on its screen is torn."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.emulators import emulator
from tests.support import ROOT, MakeImage

HEAD = re.compile(r" {0,2}\d{1,3}%  [━─]{8,60}  [\d,]+ of [\d,]+ images(  about [\d a-z]+ left)?")
WORK = re.compile(
    r" {6}(starting|stopping|[\d.,]+ images/s|(rate limited|answers with errors only) until [\d:]{8})"
    r"(  [\d,]+ (answered|failed|retried|in flight|refused))+"
)
MONEY = re.compile(r" {6}(cost unknown|\$0\.0000)  [\d.k]+ tokens in, [\d.k]+ out")
SAID = re.compile(
    r"(hook |asks |prompt: |note: |answer: |stopping: |\d+ images|passed over|tokens: |  \d+ |not ok: |results: )"
)
ENDS = re.compile(r"(next: vision-batch |vision-batch: interrupted by SIGINT|code 130)")


def torn(screen: str) -> list[str]:
    """Lines of a screen that are neither a whole line of the block, nor whole words of what was said above it."""
    lines = [line for line in screen.splitlines() if line]
    heads = [number for number, line in enumerate(lines) if "━" in line or "─" in line]
    bad = [lines[number] for number in heads[1:]]
    if heads:
        at = heads[0]
        shown = lines[at : at + 3]
        bad += [line for line, form in zip(shown, (HEAD, WORK, MONEY), strict=True) if not form.fullmatch(line)]
        lines = lines[:at] + lines[at + 3 :]
    is_ending, goes_on = False, True  # the first may have begun above the screen
    for line in lines:
        is_ending = is_ending or bool(ENDS.match(line))
        is_new = bool(SAID.match(line) or ENDS.match(line))
        # A line that was broken goes on below; the terminal itself breaks what may be copied, such as a command.
        goes_on = is_new or (goes_on and (line.startswith("  ") or is_ending))
        bad += [] if goes_on else [line]
    return bad


@contextmanager
def terminal(name: str, columns: int, rows: int, command: str, cwd: Path) -> Iterator[Callable[..., str]]:
    """A terminal of this size that runs `command` -> a function that gives words to tmux."""
    server = ["tmux", "-L", f"vision-batch-{os.getpid()}-{name}", "-f", "/dev/null"]

    def tmux(*words: str) -> str:
        return subprocess.run([*server, *words], cwd=cwd, capture_output=True, text=True, check=True).stdout

    environ = [f"-ePYTHONPATH={ROOT}", "-eLANG=C.UTF-8", "-eNO_COLOR="]
    tmux("new-session", "-d", "-s", "it", "-x", str(columns), "-y", str(rows), *environ, f"{command}; cat")
    try:
        yield tmux
    finally:
        tmux("kill-server")


def until(screen: Callable[[], str], words: str) -> str:
    """The screen as soon as it shows these words."""
    shown = ""
    for _ in range(300):
        shown = screen()
        if words in shown:
            return shown
        time.sleep(0.1)
    raise AssertionError(f"no {words!r} in:\n{shown}")


@pytest.mark.skipif(
    shutil.which("tmux") is None and os.environ.get("NOTHING_IS_MISSING") != "1", reason="needs tmux, a real terminal"
)
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_no_line_is_torn(columns: int, rows: int, make_image: MakeImage, tmp_path: Path) -> None:
    """429s that pause, errors that are retried, refusals, notes and a hook's prints above the block, a window that
    changes its size, and Ctrl-C: every line on the screen is whole at every look, and nothing of the block remains.
    """
    for number in range(3):
        make_image(f"photos/{number}.jpg", 64, 48, seed=number)
    lines = (f'{{"image": "photos/{number % 3}.jpg", "id": {number}}}\n' for number in range(3000))
    tell = "import sys\n\ndef tell(row, record):\n    if int(row['id']) % 40 == 1:\n        print('hook', row['id'])\n"
    (tmp_path / "noisy.py").write_text(tell)
    (tmp_path / "many.jsonl").write_text("".join(lines))
    faults = ["--latency-ms", "80", "--fault", "429=0.02", "--fault", "500=0.05", "--fault", "refusal=0.1"]
    with emulator([*faults, "--outage", "3+2"]) as url:
        words = f"run many.jsonl -o out --model gpt-4o --base-url {url} --set request.dedup=false --hook noisy:tell"
        command = f"{sys.executable} -m pipeline {words}; echo code $?"
        with terminal(f"{columns}", columns, rows, command, tmp_path) as tmux:

            def screen() -> str:
                return tmux("capture-pane", "-p", "-t", "it")

            looks = [until(screen, "in flight"), until(screen, "answer: ")]
            for size in (columns - 9, columns):  # what stands above is broken anew by the terminal itself
                tmux("resize-window", "-t", "it", "-x", str(size), "-y", str(rows))
                time.sleep(0.7)
                looks.append("\n".join(screen().rstrip("\n").splitlines()[-3:]))
            looks += [until(screen, " until "), until(screen, "note: ")]
            tmux("send-keys", "-t", "it", "C-c")
            time.sleep(0.3)
            looks += [screen(), until(screen, "code 130")]
    for look in looks:
        assert torn(look) == [], look
    assert not re.search(r"[━─]|\^C", looks[-1])
    for words in ("stopping: requests in flight", "results: out/data", "next: vision-batch run many.jsonl"):
        assert words in looks[-1]
