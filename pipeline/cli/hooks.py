"""Finds the function that `--hook` names."""

import importlib
import sys
from pathlib import Path
from typing import Any

from pipeline.engine.hooks import OnAnswer
from pipeline.errors import InputError


def load_hook(reference: str) -> OnAnswer:
    """The function of `package.module:function`. Raises InputError that says what is wrong.

    Modules of the working directory are found too, after all others: none of them replaces an installed one.
    """
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise InputError(f"--hook {reference!r}: write package.module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise InputError(
            f"--hook {reference}: {module} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise InputError(f"--hook {reference}: {module} has no {name!r}")
    if not callable(found):
        raise InputError(f"--hook {reference}: {name!r} is no function")
    function: OnAnswer = found
    return function
