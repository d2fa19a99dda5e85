"""Foreign text as it is shown: nothing in it acts on a terminal, a Markdown page or a spreadsheet.

File names, column names, model names and a server's words may hold anything. What is written to a screen goes
through `printable` (a line), `printable_lines` or `json_text`; files for other programs through `markdown` or
`csv_cell`.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_SHOWN_AS_THEY_ARE = frozenset({"\u200c", "\u200d"})
"""The joiners of Persian words and of emoji: without them the text reads otherwise, and no terminal acts on them."""
_MARKDOWN = re.compile(r"([\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])|^[#+>-])")
"""Marks of emphasis, code, links and tables; `_` only where it can open or close emphasis, `#+>-` at the beginning."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that a spreadsheet evaluates. Source: OWASP, "CSV Injection"."""
_NAMED = 6
"""Suffixes that a line names."""


def printable(text: str) -> str:
    """`text` on one line: controls, escapes, bidirectional marks and line separators become U+FFFD."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_lines(lines: Iterable[str]) -> str:
    """Lines for a screen. A line break within one of them is foreign, and breaks no line."""
    return "\n".join(map(printable, lines))


def json_text(value: object) -> str:
    """`value` as indented JSON that is legible, whatever its language, and in which no terminal finds a command."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in text.split("\n"))


def markdown(text: str) -> str:
    """`text` as it reads, on one line of Markdown: no link, no picture, no code, no HTML, no further table cell."""
    return _MARKDOWN.sub(r"\\\1", html.escape(printable(text), quote=False))


def csv_cell(value: object) -> object:
    """A cell of a CSV file: text that a spreadsheet would take for a formula begins with an apostrophe."""
    return defused(value, printable(value)) if isinstance(value, str) else value


def defused(text: str, shown: str | None = None) -> str:
    """`text` (as it is `shown`) with an apostrophe before it where a spreadsheet would take it for a formula."""
    return ("'" if text.startswith(_FORMULA) else "") + (text if shown is None else shown)


def whole(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, which neither SQLite nor Parquet nor UTF-8 can hold."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _shown(character: str) -> str:
    if character.isprintable() or character in _SHOWN_AS_THEY_ARE:
        return character
    return " " if unicodedata.category(character) == "Zs" or character == "\t" else REPLACEMENT


def _escaped(character: str) -> str:
    if character.isprintable() or character in _SHOWN_AS_THEY_ARE:
        return character
    return json.dumps(character)[1:-1]


def passed_words(by_kind: Mapping[str, int]) -> str:
    """`212 .fits, 3 .cr2, 41 without an image's first bytes`: bounded, with the most frequent suffixes first."""
    ordered = sorted(by_kind.items(), key=lambda item: (-item[1], item[0]))
    suffixes = [(kind, files) for kind, files in ordered if kind.startswith(".")]
    words = [f"{files:,} {kind}" for kind, files in suffixes[:_NAMED]]
    if rest := suffixes[_NAMED:]:
        kinds = "one more suffix" if len(rest) == 1 else f"{len(rest):,} more suffixes"
        words.append(f"{sum(files for _, files in rest):,} with {kinds}")
    return ", ".join([*words, *(f"{files:,} {kind}" for kind, files in ordered if not kind.startswith("."))])
