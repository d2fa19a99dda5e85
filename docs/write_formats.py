"""Writes the table of formats.md from the files that the test makes: `python docs/write_formats.py`."""

from pathlib import Path

from tests.every_format import table

PAGE = Path(__file__).with_name("formats.md")
HEADING = "## One file of each\n"

if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, _, _ = text.partition(HEADING)
    PAGE.write_text(f"{before}{HEADING}\n{table()}\n", encoding="utf-8")
