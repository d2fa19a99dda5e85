"""Writes the list of suffixes into docs/sources.md: `python docs/write_suffixes.py`."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from pipeline.config.extras import PDF_SUFFIX, VIDEO_SUFFIXES
from pipeline.sources.naming import IMAGE_SUFFIXES

PAGE = Path(__file__).parent / "sources.md"
BEGIN = "<!-- suffixes: written by docs/write_suffixes.py -->\n"
END = "<!-- end of suffixes -->\n"


def page() -> str:
    """The page as it has to stand in docs/."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    lists = _item("images", IMAGE_SUFFIXES), _item("videos", VIDEO_SUFFIXES), _item("documents", [PDF_SUFFIX])
    return before + BEGIN + "".join(lists) + END + rest.partition(END)[2]


def _item(what: str, suffixes: Sequence[str]) -> str:
    text = f"- {what}: {' '.join(f'`{suffix}`' for suffix in suffixes)}"
    return "\n".join(wrap(text, 100, subsequent_indent="  ", break_on_hyphens=False)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
