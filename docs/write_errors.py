"""Writes docs/errors.md from the kinds of errors: `python docs/write_errors.py`."""

from pathlib import Path

from pipeline.errors import ErrorKind
from pipeline.limits.decision import TRANSIENT, Reaction, reaction

PAGE = Path(__file__).with_name("errors.md")
HEAD = """# Errors

A record without a good answer is a row, whose column `error_kind` holds one of these kinds, and
whose column `error_message` says what happened there. `vision-batch status out` counts the kinds.

"Next run" in the last column means: the same command asks the record again. Every other kind is
asked again with `--retry-failed` or `--retry-kind KIND`, once its cause is mended.

`python docs/write_errors.py` writes this page from `pipeline/errors.py`.
"""
TABLE = "| `error_kind` | cause | way out | asked again by |\n|---|---|---|---|\n"
OTHERS = "Requests and answers"
SECTIONS = ("Images on this machine, or once they are fetched", "Fetching images", OTHERS, "What stops a run")


def section_of(kind: ErrorKind) -> str:
    """The part of the page in which a kind stands."""
    images, fetching, others, stops = SECTIONS
    if reaction(kind) is Reaction.STOP:
        return stops
    if kind.startswith("fetch_"):
        return fetching
    return images if kind.startswith("image_") and kind is not ErrorKind.IMAGE_IGNORED else others


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(name) for name in SECTIONS)])


def _section(name: str) -> str:
    rows = "".join(_row(kind) for kind in ErrorKind if section_of(kind) == name)
    return f"## {name}\n{TABLE}{rows}"


def _row(kind: ErrorKind) -> str:
    again = "next run" if kind in TRANSIENT or reaction(kind) is Reaction.STOP else "`--retry-failed`"
    return f"| `{kind}` | {kind.cause} | {kind.way_out} | {again} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
