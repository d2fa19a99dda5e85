"""Foreign text on a screen, in Markdown and in CSV: nothing in it acts."""

import csv
import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formatting import csv_cell, json_text, markdown, printable, printable_lines, whole

INVISIBLE = (*"\u061c\u200e\u200f\ufeff\u00ad", *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def acting() -> list[str]:
    """Controls (C0, C1, DEL), surrogates, line separators, marks of direction, and what is invisible."""
    return [
        character
        for character in map(chr, range(0x110000))
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in INVISIBLE
    ]


def test_no_acting_character_is_shown() -> None:
    """Each of over 2,000 characters on which a terminal or an editor acts is replaced, alone and in a text."""
    characters = acting()
    assert len(characters) > 2_000
    for character in characters:
        assert character not in printable(f"a{character}b") or character == "\u00a0"
        assert character not in json_text({"name": character}).replace("\n", "")
        assert character not in markdown(f"a{character}b")
        assert character not in str(csv_cell(f"a{character}b"))


@given(st.text(st.characters()))
def test_any_text_is_one_line_and_json_stays_json(text: str) -> None:
    """Any text is one printable line; as JSON it is read back as it was."""
    assert len(printable(text).splitlines()) <= 1
    assert json.loads(json_text({"a": [text], text: 1})) == {"a": [text], text: 1} or text == "a"
    whole(text).encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u65e5\u672c \U0001f469\u200d\U0001f680", "caf\u00e9 \u65e5\u672c \U0001f469\u200d\U0001f680"),
        ("3.14\u202fPM\u00a0x\ty", "3.14 PM x y"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("\x9b31m\x07", "\ufffd31m\ufffd"),
        ("ab\u202egpj.exe", "ab\ufffdgpj.exe"),
        ("one\nvision-batch: done", "one\ufffdvision-batch: done"),
    ],
)  # fmt: skip
def test_what_is_shown(text: str, shown: str) -> None:
    """Languages and emoji stay, spaces become a space, and what acts becomes a visible mark."""
    assert printable(text) == shown
    assert printable_lines([text, "next"]) == f"{shown}\nnext"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("gpt-4o_mini (o200k_base)", "gpt-4o_mini (o200k_base)"),
        ("[a](javascript:b)", r"\[a\](javascript:b)"),
        ("![](https://h/pixel)", r"!\[\](https://h/pixel)"),
        ("<img src=x>&amp;", "&lt;img src=x&gt;&amp;amp;"),
        ("`code` | *x* _y_ ~~z~~", r"\`code\` \| \*x\* \_y\_ \~\~z\~\~"),
        ("# head", r"\# head"),
        ("a\\", r"a\\"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, written: str) -> None:
    """No link, picture, code, table cell or HTML comes from a name; names as they usually are stay legible."""
    assert markdown(text) == written


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_is_a_formula(start: str) -> None:
    """A name that a spreadsheet would evaluate begins with an apostrophe; numbers stay numbers."""
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(f'{start}HYPERLINK("http://x","y")'), csv_cell(-5), csv_cell("plain")])
    cell, number, plain = next(csv.reader(io.StringIO(file.getvalue())))
    assert cell.startswith("'")
    assert (number, plain) == ("-5", "plain")
