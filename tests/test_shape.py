"""The shape of the package: sizes of modules, classes and functions, and what stands at its top."""

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "pipeline"
CODE = sorted(PACKAGE.rglob("*.py"))
MODULE, CLASS, FUNCTION, TOP = 400, 250, 40, 10
SOURCE = 100
SOURCES = (
    *("arrowfile", "bucket", "delimited", "elsewhere", "folder", "hub", "inmemory", "jsonlines", "metadata"),
    *("parquetfile", "remote_shards", "saved_datasets", "single", "textlist", "webdataset"),
)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    """No module over 400 lines, no class over 250, no function over 40."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= (CLASS if isinstance(node, ast.ClassDef) else FUNCTION), node.name


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_one_short_file(name: str) -> None:
    """What all sources share stands in modules of its own: a new one is as short to write."""
    assert len((PACKAGE / f"sources/{name}.py").read_text(encoding="utf-8").splitlines()) <= SOURCE


def test_the_top_of_the_package() -> None:
    """Besides the rooms at most ten modules."""
    assert len(list(PACKAGE.glob("*.py"))) <= TOP
