"""The project's words: identifiers after docs/glossary.md, and prose without riddles."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
CODE = sorted((ROOT / "pipeline").rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path.name != "test_words.py")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "data").glob("*.md")])
MOST_COLUMNS = 100
ANOTHER_SENSE: dict[str, set[str]] = {"ceiling": {"pricing.py"}}
"""Words of the third column that are a field's own term in some file: the file names."""


def _third_column() -> set[str]:
    rows = [line.split("|")[1:-1] for line in GLOSSARY.splitlines() if line.startswith("|")][2:]
    return {word.strip() for row in rows for word in row[2].split(",") if re.fullmatch(r"[a-z]+", word.strip())}


def _riddles() -> list[str]:
    listed = GLOSSARY.rpartition("are not used:")[2].strip().rstrip(".")
    return [" ".join(words.split()) for words in listed.split(",")]


_PATTERN = "|".join(re.escape(words).replace(r"\ ", r"\s+") for words in _riddles())
RIDDLE = re.compile(rf"\b({_PATTERN})\b", re.IGNORECASE)


def _names(path: Path) -> Iterator[str]:
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("name", "id", "attr", "arg"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name


def _words(name: str) -> set[str]:
    """`in_flight` is the field's own word for a request under way."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name.replace("in_flight", ""))}


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_identifiers_are_of_the_glossary(path: Path) -> None:
    """No class, function, variable or file bears a name that the glossary replaces."""
    replaced = _third_column() - {word for word, files in ANOTHER_SENSE.items() if path.name in files}
    assert {name for name in _names(path) if _words(name) & replaced} == set()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_are_named_after_the_glossary(path: Path) -> None:
    """No test, fixture, helper or class of the tests bears a name that the glossary replaces."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = {node.name for node in nodes if isinstance(node, defined)}
    assert {name for name in names if _words(name) & _third_column()} == set()


@pytest.mark.parametrize("path", [*CODE, *TESTS, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_without_riddles(path: Path) -> None:
    """Help, errors, docstrings, comments, pages and tests use none of the words that need a second reading."""
    text = path.read_text(encoding="utf-8")
    if path.name == "glossary.md":
        text = "\n".join(line for line in text.partition("These words")[0].splitlines() if not line.startswith("|"))
    assert RIDDLE.findall(text) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_of_pages(path: Path) -> None:
    """Lines of a page have at most 100 characters; a row of a table cannot be divided."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > MOST_COLUMNS and not line.startswith("|")] == []
