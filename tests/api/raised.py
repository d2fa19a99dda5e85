"""Which errors of the package a function can raise, as far as its source code tells."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from pipeline.errors import VisionBatchError


def errors_of(function: Callable[..., Any]) -> set[type[VisionBatchError]]:
    """The errors that a function, or a function or class that it names, constructs. Calls of methods are not followed
    beyond the classes that are named, and caught errors count: the set may be too large, hardly too small.
    """
    seen: set[object] = set()
    found: set[type[VisionBatchError]] = set()
    queue: list[object] = [function]
    while queue:
        one = queue.pop()
        if one in seen:
            continue
        seen.add(one)
        for named in _named(one):
            if isinstance(named, type) and issubclass(named, VisionBatchError):
                found.add(named)
            elif _is_ours(named):
                queue.append(named)
    return found


def _is_ours(value: object) -> bool:
    return isinstance(value, FunctionType | type) and (getattr(value, "__module__", "") or "").startswith("pipeline")


def _named(value: object) -> Iterator[object]:
    """What the code of a function or class calls or passes on by name."""
    target = inspect.unwrap(value) if isinstance(value, FunctionType) else value
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(target)))  # type: ignore[arg-type] # a function or a class
    except (OSError, TypeError):
        return
    module = sys.modules[target.__module__]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for part in (node.func, *node.args):
                found = _resolved(part, module)
                is_error = isinstance(found, type) and issubclass(found, VisionBatchError)
                if found is not None and (part is node.func or not is_error):
                    yield found


def _resolved(node: ast.expr, module: ModuleType) -> object | None:
    if isinstance(node, ast.Name):
        return getattr(module, node.id, None)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        holder = getattr(module, node.value.id, None)
        return getattr(holder, node.attr, None) if isinstance(holder, ModuleType | type) else None
    return None
