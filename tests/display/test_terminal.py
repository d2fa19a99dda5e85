"""Real terminals: a run is driven in tmux, with warnings, pauses and Ctrl-C, and no line on its screen is torn."""

import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.emulators import emulator
from tests.support import ROOT, MakeImage

LONGEST_S = 30.0
"""Without anything new on the screen; a run draws several times a second."""
HEAD = re.compile(r" {0,2}\d{1,3}%  [━─]{8,60}  [\d,]+ of [\d,]+ images(  about [\d a-z]+ left)?")
WORK = re.compile(
    r" {6}(starting|stopping|[\d.,]+ images/s|(rate limited|answers with errors only) until [\d:]{8})"
    r"(  [\d,]+ (answered|failed|retried|in flight|refused))+"
)
MONEY = re.compile(r" {6}(cost unknown|\$0\.0000)(  [\d.k]+ tokens in, [\d.k]+ out)?")
SAID = re.compile(
    r"(hook |asks |prompt: |note: |answer: |stopping: |\d+( of [\d,]+)? images|passed over|tokens: |  \d+ |"
    r"not ok: |results: )"
)
ENDS = re.compile(r"(next: vision-batch |vision-batch: interrupted by SIGINT|code 130)")
FITTED = re.compile(rb"\x1b\[J\x1b\[\?7l.*\x1b\[\?7h\r\x1b\[\?7l.*\x1b\[\?7h", re.DOTALL)
"""The drawing that first clears a window of another size, which may be that of a line printed above the block as it was
before, and a drawing of a new block."""


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


class Terminal:
    """A terminal of tmux's, and what it shows."""

    def __init__(self, tmux: Callable[..., str], output: int) -> None:
        """`output` gives the bytes that the terminal shows, as a pipe."""
        self.tmux, self._output = tmux, output

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "it")

    def after_output(self) -> str:
        """The screen once something more has been written to it."""
        self._more()
        return self.screen()

    def redrawn(self) -> str:
        """The block, once one has been made for a window whose size has just been changed."""
        written = self._more()
        while not FITTED.search(written):
            written += self._more()
        return "\n".join(self.screen().rstrip("\n").splitlines()[-3:])

    def _more(self) -> bytes:
        ready, _, _ = select.select([self._output], [], [], LONGEST_S)
        assert ready, f"nothing is written to:\n{self.screen()}"
        return os.read(self._output, 1 << 20)

    def until(self, words: str) -> str:
        """The screen as soon as it shows these words."""
        shown = self.screen()
        while words not in shown:
            shown = self.after_output()
        return shown


@contextmanager
def terminal(name: str, columns: int, rows: int, command: str, cwd: Path) -> Iterator[Terminal]:
    """A terminal of this size that runs `command`, once it is looked at."""
    server = ["tmux", "-L", f"vision-batch-{os.getpid()}-{name}", "-f", "/dev/null"]

    def tmux(*words: str) -> str:
        return subprocess.run([*server, *words], cwd=cwd, capture_output=True, text=True, check=True).stdout

    pipe, begins = cwd / "output", cwd / "begins"
    for path in (pipe, begins):
        os.mkfifo(path)
    output = os.open(pipe, os.O_RDWR)  # a pipe without a writer would be at its end
    environ = [f"-ePYTHONPATH={ROOT}", "-eLANG=C.UTF-8", "-eNO_COLOR="]
    waiting = f"read -r _ < {begins}; {command}; cat"
    tmux("new-session", "-d", "-s", "it", "-x", str(columns), "-y", str(rows), *environ, waiting)
    try:
        tmux("pipe-pane", "-t", "it", "-O", f"exec cat > {pipe}")
        begins.write_text("\n")
        yield Terminal(tmux, output)
    finally:
        tmux("kill-server")
        os.close(output)


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
        with terminal(f"{columns}", columns, rows, command, tmp_path) as shown:
            looks = [shown.until("in flight"), shown.until("answer: ")]
            for size in (columns - 9, columns):  # what stands above is broken anew by the terminal itself
                shown.tmux("resize-window", "-t", "it", "-x", str(size), "-y", str(rows))
                looks.append(shown.redrawn())
            looks += [shown.until(" until "), shown.until("note: ")]
            shown.tmux("send-keys", "-t", "it", "C-c")
            looks += [shown.until("stopping"), shown.until("code 130")]  # before, the terminal's own ^C may be seen
    for look in looks:
        assert torn(look) == [], look
    assert not re.search(r"[━─]|\^C", looks[-1])
    for words in ("stopping: requests in flight", "results: out/data", "next: vision-batch run many.jsonl"):
        assert words in looks[-1]
