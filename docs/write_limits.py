"""Writes the table of constants in docs/limits.md from the modules: `python docs/write_limits.py`."""

import ast
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "limits.md"
MODULES = (
    *(f"limits/{path.name}" for path in sorted((ROOT / "pipeline" / "limits").glob("*.py"))),
    *(f"engine/{name}.py" for name in ("failures", "scheduler", "semaphores", "state", "throttles")),
)
HEADING = "## Constants"
INTRODUCTION = """
Every number that the limiter does not measure, and what it gains. `python docs/write_limits.py`
writes this table from the modules; a number without a sentence fails a test.

| constant | value | what it gains | in |
|---|---|---|---|
"""


def _numbers(module: str) -> Iterator[tuple[list[str], str]]:
    """The names of constants that are numbers, with the sentence below them; "" where there is none."""
    body = ast.parse((ROOT / "pipeline" / module).read_text(encoding="utf-8")).body
    for node, following in pairwise([*body, ast.Pass()]):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        names = [one.id for one in getattr(target, "elts", [target]) if isinstance(one, ast.Name)]
        sentence = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            sentence = " ".join(str(following.value.value).split())
        values = vars(import_module(f"pipeline.{module.removesuffix('.py').replace('/', '.')}"))
        if names and all(name.isupper() and isinstance(values[name], int | float) for name in names):
            yield names, sentence


def constants() -> list[tuple[str, str, str, str]]:
    """(names, values, sentence, module) of each."""
    rows = []
    for module in MODULES:
        values = vars(import_module(f"pipeline.{module.removesuffix('.py').replace('/', '.')}"))
        for names, sentence in _numbers(module):
            shown = ", ".join(f"{values[name]:,}" for name in names)
            rows.append((", ".join(f"`{name}`" for name in names), shown, sentence, f"`{module}`"))
    return rows


def page() -> str:
    """The page as it has to stand in docs/."""
    text = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    rows = "".join(f"| {' | '.join(row)} |\n" for row in constants())
    return f"{text.rstrip()}\n\n{HEADING}\n{INTRODUCTION}{rows}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
