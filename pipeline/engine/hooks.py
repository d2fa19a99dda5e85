"""What a program does with each answer before its row is written: the hook `on_answer`.

It runs between an answer and the writer, without a permit: an `async` function in the loop, any other in a thread.
Whatever a hook does is about one row. Its errors are values here, as those of an endpoint.
"""

import asyncio
import copy
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from pipeline.engine.threads import Threads
from pipeline.errors import ErrorKind, InputError
from pipeline.formatting import printable
from pipeline.records import Answer, ImageRecord, Outcome, Status

THREADS = 64
"""Threads of a hook that is no `async` function: one that waits for a server, say, holds up few others."""
_MOST_CHARS = 1_000
"""Of a message."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A hook returns it to have the record asked once more."""

    prompt: str | None = None
    """What is asked then; None: the same as before."""


@dataclass(frozen=True, slots=True)
class Fail:
    """A hook returns it to have the row fail: `error_kind` is `hook_failed`, and the text stays."""

    message: str


Reply = Mapping[str, Any] | Ask | Fail | None
"""Changed columns; or one of the two; None keeps the row as it is."""
OnAnswer = Callable[[dict[str, Any], dict[str, Any]], Reply | Awaitable[Reply]]
"""Called with the row that is to be written, and with the record: its `id`, `image` and other columns."""


def checked_hook(function: object) -> OnAnswer | None:
    """Raises InputError, before anything is asked, where this is no function of a row and its record."""
    if function is None:
        return None
    if not callable(function):
        raise InputError(f"`on_answer` is a function of (row, record), and no {type(function).__name__}")
    try:
        inspect.signature(function).bind({}, {})
    except TypeError as error:
        raise InputError(f"`on_answer` is called with (row, record), and this function is not: {error}") from None
    except ValueError:  # of a function in C nothing is known
        pass
    checked: OnAnswer = function
    return checked


class Hook:
    """A function of the user, and what its replies mean. A context manager: leaving it waits for no thread."""

    def __init__(
        self,
        function: OnAnswer,
        *,
        row_of: Callable[[Outcome], dict[str, Any]],
        misfit: Callable[[Mapping[str, Any]], str | None],
        redact: Callable[[str], str],
    ) -> None:
        """`misfit` says why a row cannot have these values; `redact` takes secrets out of a message."""
        self._function, self._row_of, self._misfit, self._redact = function, row_of, misfit, redact
        self._is_async = _is_async(function)
        self._threads: Threads | None = None

    def __enter__(self) -> Self:
        self._threads = None if self._is_async else Threads("hook", THREADS)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._threads is not None:
            self._threads.close()

    async def __call__(self, outcome: Outcome) -> Outcome | Ask:
        """The outcome as the hook leaves it, or that its record is asked again. Raises only where it is cancelled."""
        try:
            reply = await self._reply(outcome)
            if not isinstance(reply, Ask):
                return self._applied(outcome, reply)
            prompt: object = reply.prompt
            if prompt is None or (isinstance(prompt, str) and prompt.strip()):
                return reply
            return self._failed(outcome, "the hook returned Ask with a prompt that is no text, or an empty one")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._raised(outcome, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's function raises is about this row
            return self._raised(outcome, error)

    async def _reply(self, outcome: Outcome) -> object:
        row, record = copy.deepcopy(self._row_of(outcome)), _as_dict(outcome.record)
        if self._threads is not None:
            reply: object = await self._threads.call(_called, self._function, row, record)
        else:
            reply = self._function(row, record)
        return await reply if inspect.isawaitable(reply) else reply

    def _applied(self, outcome: Outcome, reply: object) -> Outcome:
        if reply is None:
            return outcome
        if isinstance(reply, Fail):
            return self._failed(outcome, str(reply.message))
        if not isinstance(reply, Mapping):
            words = f"returned a value of type {type(reply).__name__}: a dict of columns, Ask, Fail or None is expected"
            return self._failed(outcome, f"the hook {words}")
        row = self._row_of(outcome)
        changes = {name: value for name, value in reply.items() if name not in row or row[name] != value}
        why = self._misfit(changes) if changes else None
        return replace(outcome, changes=changes) if why is None else self._failed(outcome, f"the hook {why}")

    def _raised(self, outcome: Outcome, error: BaseException) -> Outcome:
        words = str(error).strip().partition("\n")[0]
        return self._failed(outcome, f"the hook raised {type(error).__name__}{f': {words}' if words else ''}")

    def _failed(self, outcome: Outcome, message: str) -> Outcome:
        return failed(outcome, printable(self._redact(message))[:_MOST_CHARS])


def failed(outcome: Outcome, message: str) -> Outcome:
    """The outcome as a failure of the hook: tokens, cost and text of the answer stay."""
    if not isinstance(outcome.result, Answer):
        return outcome
    kind = ErrorKind.HOOK_FAILED
    result = replace(outcome.result, status=Status.FAILED, error_kind=kind, error_message=message)
    return replace(outcome, result=result, changes={})


def _called(function: OnAnswer, row: dict[str, Any], record: dict[str, Any]) -> object:
    """In a thread. StopIteration cannot pass through a future."""
    try:
        return function(row, record)
    except StopIteration as error:
        raise RuntimeError(f"StopIteration: {error}") from error


def _as_dict(record: ImageRecord) -> dict[str, Any]:
    """The manifest's other columns, and the record's id and image."""
    others = json.loads(record.extra) if record.extra else {}
    return {**others, "id": record.id, "image": record.image}


def _is_async(function: OnAnswer) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
