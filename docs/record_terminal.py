"""Records docs/terminal.svg: the main job on the sample images, as it looks in a terminal 110 columns wide."""

import os
import pty
import re
import struct
import sys
import tempfile
import termios
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
COLUMNS = 110
LINES = (
    "vision-batch run data/samples/manifest.csv -o {out} --emulator --max-failed 1",
    "vision-batch run data/samples/manifest.csv -o {out} --emulator --max-failed 1",
)
READ = """import pandas as pd
df = pd.read_parquet("{out}/data")
print(df[["id", "status", "prompt_tokens", "cost_usd", "caption"]].head(5).to_string(index=False, max_colwidth=56))
"""


def recorded(arguments: list[str], folder: Path) -> str:
    """What a command writes to a terminal; of a line that is drawn over, the last drawing."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - this very interpreter
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    output = b""
    try:
        while chunk := os.read(terminal, 65536):
            output += chunk
    except OSError:  # how a pseudo-terminal says that the other end is closed
        pass
    os.waitpid(pid, 0)
    lines = output.decode().replace("\r\n", "\n").split("\n")
    drawn = (re.sub(r"\x1b\[[A-K]", "", line).rsplit("\r", 1)[-1] for line in lines)
    return "\n".join(line for line in drawn if line.strip())


def main() -> None:
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115 - ends with us
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "data").symlink_to(ROOT / "data")
        for line in LINES:
            command = line.format(out="out")
            console.print(Text(f"$ {command}", style="bold"))
            console.print(Text.from_ansi(recorded(["-m", "pipeline", *command.split()[1:]], folder)))
        console.print(Text(">>> df = pd.read_parquet('out/data'); df[['id', 'status', ...]].head()", style="bold"))
        console.print(Text.from_ansi(recorded(["-c", READ.format(out="out")], folder)))
    svg = console.export_svg(title="vision-batch", font_aspect_ratio=0.61)
    # No font is fetched from anywhere: a page with this picture stays on its own site.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (ROOT / "docs" / "terminal.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


if __name__ == "__main__":
    main()
