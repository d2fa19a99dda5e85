"""The response body of chat/completions: the caption, its bill, and the faults that show in a body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.emulator.billing import Bill, Billing, cut_to_tokens, prompt_text_tokens
from pipeline.emulator.chat_request import ChatRequest
from pipeline.emulator.documents import PAGE_TOKENS
from pipeline.emulator.faults import Fault
from pipeline.emulator.instances import in_words, instance
from pipeline.emulator.logprobs import logprobs_of
from pipeline.emulator.parameters import Options
from pipeline.emulator.pixels import Look
from pipeline.tokens.text import text_tokens

FINGERPRINT = "vision-batch-emulator"
NO_IMAGE = (
    "This is the vision-batch emulator and no model: it describes what can be measured in an image, "
    "and this request holds none."
)
REFUSAL = "I'm sorry, I can't assist with that."
GIBBERISH = " ".join(["the"] * 200)
_USAGE_ERROR = 10
_REASONING_TOKENS = 1000
"""What is thought where no `max_tokens` ends it."""

ERROR_IN_200: Mapping[str, Any] = {
    "error": {
        "code": 502,
        "message": "Provider returned error",
        "metadata": {"provider_name": FINGERPRINT, "raw": "upstream connect error"},
    }
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice of an answer."""

    content: str | None
    finish_reason: str = "stop"
    refusal: str | None = None
    reasoning_tokens: int = 0


def caption(looks: Sequence[Look]) -> str:
    """What is said of a request's images."""
    if not looks:
        return NO_IMAGE
    if len(looks) == 1:
        return looks[0].caption
    return " ".join(f"Image {number}: {look.caption}" for number, look in enumerate(looks, start=1))


def answer_text(request: ChatRequest, looks: Sequence[Look], hashes: Sequence[bytes], fault: Fault | None) -> str:
    """What an answer says: a caption, or JSON where that is asked for, the same for the same images."""
    said = caption(looks)
    if request.schema is None:
        return said
    return in_words(instance(request.schema, b"".join(hashes), said), request.schema, fault)


def reply(
    text: str, max_tokens: int | None, fault: Fault | None, *, thought: int = 0, stop: Sequence[str] = ()
) -> Reply:
    """The choice that says `text`, in at most `max_tokens`, unless a fault makes it another.

    `thought` are the tokens of the reasoning before it, which `max_tokens` counts; `stop` are texts at which it ends.
    """
    if fault is Fault.EMPTY:
        return Reply("")
    if fault is Fault.REFUSAL:
        return Reply(None, refusal=REFUSAL)
    if fault is Fault.CONTENT_FILTER:
        return Reply("", "content_filter")
    if fault is Fault.REASONING_EXHAUSTED or (max_tokens is not None and thought >= max_tokens):
        return Reply("", "length", reasoning_tokens=max_tokens or _REASONING_TOKENS)
    if fault is Fault.GIBBERISH:
        text = GIBBERISH
    for end in filter(None, stop):
        text = text.partition(end)[0]
    if fault is Fault.TRUNCATE:
        half = thought + max(1, text_tokens(text) // 2)
        max_tokens = half if max_tokens is None else min(half, max_tokens)
    left = None if max_tokens is None else max(1, max_tokens - thought)
    if left is not None and text_tokens(text) > left:
        return Reply(cut_to_tokens(text, left), "length", reasoning_tokens=thought)
    return Reply(text, reasoning_tokens=thought)


def prompt_tokens(request: ChatRequest, looks: Sequence[Look], billing: Billing) -> tuple[int, int]:
    """The tokens of a prompt: of its text, and of its images."""
    rule = (billing.reading_rule if request.is_read_first else billing.image_rule)(request.model)
    pairs = zip(looks, request.images, strict=True)
    return (
        prompt_text_tokens((*request.texts, request.schema_text), request.messages),
        sum(
            PAGE_TOKENS * look.pages or rule.tokens(look.width, look.height, image.detail).expected
            for look, image in pairs
        ),
    )


def bill(request: ChatRequest, prompt: tuple[int, int], answer: Reply, fault: Fault | None) -> Bill:
    """The tokens of a request: the prompt once, the answer as often as there are choices."""
    choices = 0 if fault is Fault.EMPTY_CHOICES else request.n
    text, images = prompt
    return Bill(
        text_tokens=text,
        image_tokens=0 if fault is Fault.IMAGE_IGNORED else images,
        completion_tokens=choices * (text_tokens(answer.content or answer.refusal or "") + answer.reasoning_tokens),
    )


def pages_bill(looks: Sequence[Look]) -> Bill:
    """What OCR bills: pages, an image is one."""
    pages = sum(look.pages or 1 for look in looks)
    return Bill(text_tokens=0, image_tokens=0, completion_tokens=0, pages=max(1, pages))


def completion(
    request: ChatRequest, answer: Reply, billed: Bill, fault: Fault | None, *, answer_id: str, created: int
) -> dict[str, Any]:
    """The body of a `chat.completion`."""
    choices = 0 if fault is Fault.EMPTY_CHOICES else request.n
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [_choice(index, answer, request.options) for index in range(choices)],
        "usage": _usage(billed, choices * answer.reasoning_tokens, fault),
        "service_tier": request.options.tier,
        "system_fingerprint": FINGERPRINT,
    }


def reported_prompt_tokens(billed: Bill, fault: Fault | None) -> int:
    """What a response says of its prompt, which a fault makes wrong."""
    return billed.prompt_tokens * (_USAGE_ERROR if fault is Fault.WRONG_USAGE else 1)


def _choice(index: int, answer: Reply, options: Options) -> dict[str, Any]:
    return {
        "index": index,
        "message": {
            "role": "assistant",
            "content": answer.content,
            "refusal": answer.refusal,
            "annotations": [],
        },
        "logprobs": logprobs_of(answer.content or "", options.top_logprobs) if options.logprobs else None,
        "finish_reason": answer.finish_reason,
    }


def _usage(billed: Bill, reasoning_tokens: int, fault: Fault | None) -> dict[str, Any]:
    return {
        "prompt_tokens": reported_prompt_tokens(billed, fault),
        "completion_tokens": billed.completion_tokens,
        "total_tokens": billed.prompt_tokens + billed.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "audio_tokens": 0,
            "text_tokens": billed.text_tokens,
            "image_tokens": billed.image_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
