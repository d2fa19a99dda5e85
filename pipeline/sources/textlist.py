"""A plain list: one path or URL a line."""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.config.sections import SourceConfig
from pipeline.sources.lines import raw_lines
from pipeline.sources.manifest import ABSENT, BadRow, Row


def read_text(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:  # noqa: ARG001 - a list has no columns
    """Blank lines and lines that begin with `# ` are skipped.

    Blanks at the end of a line are no part of a name. Lines are file names, so bytes that are no UTF-8 are kept as they
    are: `find` writes such lists.
    """
    for number, line in enumerate(raw_lines(file, name), 1):
        text = line.rstrip(b" \t\r\n").decode("utf-8", "surrogateescape")
        if text and not text.isspace() and not text.startswith("# "):
            yield number, text, ABSENT, None
