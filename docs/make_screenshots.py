"""Makes the pictures of the README from real runs: `python docs/make_screenshots.py`.

docs/terminal.svg is what a terminal (tmux) shows in the middle of a run and at its end; docs/report.png is the report
of that run in Chromium.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
COLUMNS, ROWS = 100, 32
COMMAND = "vision-batch run photos -o captions --emulator --rpm 50 --max-cost 1"
SERVER = ("tmux", "-L", f"vision-batch-screenshots-{os.getpid()}", "-f", "/dev/null")
LONGEST_S = 30.0


def tmux(*words: str, cwd: Path) -> str:
    """One command of a tmux server of our own."""
    return subprocess.run([*SERVER, *words], cwd=cwd, capture_output=True, text=True, check=True).stdout  # noqa: S603


def screen(cwd: Path, shows: str) -> str:
    """The terminal with its colours, as soon as it shows these words."""
    until, shown = time.monotonic() + LONGEST_S, ""
    while time.monotonic() < until:
        shown = tmux("capture-pane", "-e", "-p", "-t", "it", cwd=cwd)
        if shows in re.sub(r"\x1b\[[0-9;]*m", "", shown):
            return shown.rstrip("\n")
        time.sleep(0.1)
    raise SystemExit(f"no {shows!r} within {LONGEST_S:g} s:\n{shown}")


def recorded(folder: Path) -> list[str]:
    """The run in its middle, and its last screen."""
    (folder / "bin").mkdir()
    script = folder / "bin" / "vision-batch"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pipeline "$@"\n')
    script.chmod(0o755)
    (folder / "rc").write_text(f"PS1='$ '\nPATH={folder / 'bin'}:$PATH\nunset NO_COLOR\n")
    size = ("-x", f"{COLUMNS}", "-y", f"{ROWS}")
    tmux("new-session", "-d", "-s", "it", *size, "-eLANG=C.UTF-8", "bash --rcfile ./rc", cwd=folder)
    try:
        screen(folder, "$")
        tmux("send-keys", "-t", "it", COMMAND, "Enter", cwd=folder)
        middle = screen(folder, " left")
        return [middle, screen(folder, "next: ")]
    finally:
        tmux("kill-server", cwd=folder)


def drawn(screens: list[str]) -> str:
    """The screens as one SVG: the last lines of the run take the place of the block."""
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115 - ends with us
    middle, last = (text.split("\n") for text in screens)
    same = next((n for n, (one, other) in enumerate(zip(middle, last, strict=False)) if one != other), 0)
    for line in [*middle, "", *last[same:]]:
        console.print(Text.from_ansi(line), overflow="crop", no_wrap=True)
    svg = console.export_svg(title="vision-batch", font_aspect_ratio=0.61)
    # No font is fetched from anywhere: a page with this picture stays on its own site.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def photographed(page: Path, picture: Path) -> None:
    """The top of a page as a PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--force-color-profile=srgb"]
        )
        tab = browser.new_page(viewport={"width": 1200, "height": 1000}, offline=True)
        tab.goto(page.as_uri())
        tab.screenshot(path=picture)
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(ROOT / "data" / "samples", folder / "photos", ignore=shutil.ignore_patterns("*.csv"))
        (ROOT / "docs" / "terminal.svg").write_text(drawn(recorded(folder)), encoding="utf-8")
        report = [sys.executable, "-m", "pipeline", "report", "captions"]
        subprocess.run(report, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)  # noqa: S603
        photographed(folder / "captions" / "report.html", ROOT / "docs" / "report.png")


if __name__ == "__main__":
    main()
