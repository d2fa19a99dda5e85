"""Functions of the caller that a run or an estimate calls while it goes on."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TypeVar

from pipeline.display.progress import say
from pipeline.errors import CallbackError, InputError

T = TypeVar("T")


def checked(name: str, function: Callable[[T], object]) -> Callable[[T], None]:
    """The same function; what it raises becomes a CallbackError, which ends a run once its answers are committed.

    Raises InputError where it is none, or an async one, which is never awaited.
    """
    given: object = function
    if not callable(given) or iscoroutinefunction(given):
        kind = "an async one" if callable(given) else f"a value of type {type(given).__name__}"
        raise InputError(f"`{name}` is a plain function of one argument, and this is {kind}")

    def call(value: T) -> None:
        try:
            function(value)
        except Exception as error:
            what = f"`{name}` raised {type(error).__name__}: {error}"
            raise CallbackError(f"{what}. What was answered is kept; the same call goes on") from error

    return call


def notes_to(on_note: Callable[[str], None] | None, *, quiet: bool) -> Callable[[str], None] | None:
    """Where the notes of a run go: to the caller's function, or else to standard error; None: nowhere."""
    if on_note is not None:
        return checked("on_note", on_note)
    return None if quiet else say
