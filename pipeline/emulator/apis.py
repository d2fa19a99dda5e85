"""What differs between the APIs that the emulator serves: how a request is read, and how its answer is written."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.emulator.answers import ERROR_IN_200, Reply, completion
from pipeline.emulator.billing import Bill, Billing
from pipeline.emulator.chat_request import ChatRequest, parse_chat_request
from pipeline.emulator.faults import Fault
from pipeline.emulator.pixels import Look
from pipeline.emulator.streaming import broken_stream, events

Body = dict[str, Any]
Serves = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Made:
    """An answer that is made: all that its body is written from."""

    asked: ChatRequest
    payload: Mapping[str, Any]
    """The request's body."""
    answer: Reply
    billed: Bill
    fault: Fault | None
    looks: tuple[Look, ...] = ()
    """At the images."""


@dataclass(frozen=True, slots=True)
class Api:
    """One API of answers about images."""

    parse: Callable[[object, Serves, Billing], ChatRequest]
    """Reads a body. Raises ApiError with OpenAI's codes."""
    body: Callable[[Made], Body]
    events: Callable[[Body, ChatRequest], list[bytes]]
    """The same body as a stream."""
    failed: Mapping[str, Any]
    """An error in a response with status 200."""
    failed_events: Callable[[], list[bytes]]
    bills_tokens: bool = True
    """False where pages are billed."""
    status: Callable[[ChatRequest], int] = lambda _: 200
    """Of a good answer."""


def _completion(made: Made) -> Body:
    answer_id, now = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
    return completion(made.asked, made.answer, made.billed, made.fault, answer_id=answer_id, created=now)


def _chunks(completed: Body, asked: ChatRequest) -> list[bytes]:
    return events(completed, include_usage=asked.options.include_usage)


CHAT: Final = Api(parse_chat_request, _completion, _chunks, ERROR_IN_200, lambda: broken_stream(ERROR_IN_200))
