"""The shape of the package: sizes of modules, classes and functions, and what stands at its top."""

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "pipeline"
CODE = sorted(PACKAGE.rglob("*.py"))
MODULE, CLASS, FUNCTION, TOP = 400, 250, 40, 10


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    """No module over 400 lines, no class over 250, no function over 40."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= (CLASS if isinstance(node, ast.ClassDef) else FUNCTION), node.name


def test_the_top_of_the_package() -> None:
    """Besides the rooms at most ten modules."""
    assert len(list(PACKAGE.glob("*.py"))) <= TOP
