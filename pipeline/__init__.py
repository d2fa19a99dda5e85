"""vision-batch: caption, label and price whole image datasets through any OpenAI-compatible vision endpoint."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline import interrupts

if TYPE_CHECKING:
    from pipeline.api.public import *  # noqa: F403
    from pipeline.api.public import __all__ as __all__

if interrupts.is_our_command():
    interrupts.watch_interrupts()

_ALSO_ROOMS = ("run", "export")


class _Package(ModuleType):
    """Imports what the package offers when a name of it is first used: commands and child processes need a part of it.

    A name stays what it is when a room of the same name is imported (`run`, `export`).
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any of the names
        if name == "__all__" or not (name.startswith("__") or self._is_module(name)):
            public = import_module("pipeline.api.public")
            if name == "__all__" or name in public.__all__:
                return getattr(public, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _ALSO_ROOMS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def _is_module(self, name: str) -> bool:
        """Whether `from pipeline import NAME` is about a module, which the interpreter imports by itself."""
        return name not in _ALSO_ROOMS and find_spec(f"{self.__name__}.{name}") is not None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__getattr__("__all__")})


sys.modules[__name__].__class__ = _Package
