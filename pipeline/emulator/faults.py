"""What can go wrong on demand: the faults by name, and at what rate."""

import difflib
from collections.abc import Iterable
from enum import StrEnum

from pipeline.errors import InputError


class Fault(StrEnum):
    """What can go wrong on demand. In brackets: whether the request is billed all the same."""

    RATE_LIMITED = "429"
    """429 that says how long to wait, as `retry_after` writes it [no]."""
    RATE_LIMITED_BARE = "429_no_retry_after"
    """429 that does not say how long to wait [no]."""
    INSUFFICIENT_QUOTA = "insufficient_quota"
    """The account has no credit left: 429, or the status that the error style has for it [no]."""
    BAD_KEY = "bad_key"
    """401, the key is refused [no]."""
    SERVER_ERROR = "500"
    """500 with OpenAI's `server_error` [no]."""
    OVERLOADED = "503"
    """503, the engine is overloaded [no]."""
    SLOW = "slow"
    """The right answer, `slow_ms` later [yes]."""
    STALL = "stall"
    """No answer: the connection hangs until the client gives up, or is reset after `stall_s` [no]."""
    DISCONNECT = "disconnect"
    """The connection is reset before anything is answered [no]."""
    DISCONNECT_MID = "disconnect_mid"
    """The connection is closed in the middle of the answer's body [yes]."""
    BROKEN_JSON = "broken_json"
    """A whole response whose JSON stops in the middle [yes]."""
    ERROR_IN_200 = "error_in_200"
    """An error object under status 200, as OpenRouter sends it [no]."""
    EMPTY_CHOICES = "empty_choices"
    """`choices` is an empty list [yes, the prompt]."""
    EMPTY = "empty"
    """The answer's text is empty [yes]."""
    REASONING_EXHAUSTED = "reasoning_exhausted"
    """No text, `finish_reason` length: all of `max_tokens` went into reasoning [yes, all of it]."""
    REFUSAL = "refusal"
    """`message.refusal` instead of an answer [yes]."""
    GIBBERISH = "gibberish"
    """One word, again and again [yes]."""
    CONTENT_FILTER = "content_filter"
    """`finish_reason` content_filter and no text [yes]; in the styles of Azure and OpenRouter an error [no]."""
    TRUNCATE = "truncate"
    """Half the text, and `finish_reason` length [yes]."""
    IMAGE_IGNORED = "image_ignored"
    """An answer without a look at the image [yes, without the images' tokens]."""
    LABELS_TYPE = "labels_type"
    """An answer in JSON whose first property has another type; so the next, for answers in JSON only [yes]."""
    LABELS_MISSING = "labels_missing"
    """JSON without its first property [yes]."""
    LABELS_ENUM = "labels_enum"
    """JSON with values that no enum has [yes]."""
    LABELS_FENCED = "labels_fenced"
    """JSON in Markdown fences [yes]."""
    LABELS_PROSE = "labels_prose"
    """JSON with words around it [yes]."""
    LABELS_CUT = "labels_cut"
    """JSON that ends in its middle, while `finish_reason` is stop [yes]."""
    WRONG_USAGE = "wrong_usage"
    """`usage` reports ten times the prompt tokens that were billed, and a total that contradicts it [yes]."""


class BadAnswer(StrEnum):
    """What a model answers that has gone bad: each is a fault too."""

    EMPTY = "empty"
    REFUSAL = "refusal"
    GIBBERISH = "gibberish"


UNANSWERED = frozenset(
    {
        Fault.RATE_LIMITED,
        Fault.RATE_LIMITED_BARE,
        Fault.INSUFFICIENT_QUOTA,
        Fault.BAD_KEY,
        Fault.SERVER_ERROR,
        Fault.OVERLOADED,
        Fault.STALL,
        Fault.DISCONNECT,
        Fault.ERROR_IN_200,
    }
)
"""Faults that are shown instead of an answer, also by a model that has gone bad."""


def parse_faults(settings: Iterable[str]) -> dict[Fault, float]:
    """`["500=0.03", "disconnect=0.01"]` -> rates by fault, each between 0 and 1.

    Raises InputError that names the setting, and the known faults.
    """
    rates: dict[Fault, float] = {}
    for setting in settings:
        name, _, rate = setting.partition("=")
        try:
            rates[known_fault(name.strip())] = float(rate)
        except ValueError:
            raise InputError(f"fault {setting!r}: expected NAME=RATE, for example 500=0.03") from None
    return rates


def known_fault(name: str) -> Fault:
    """The fault of that name. Raises InputError that names the nearest one and all others."""
    try:
        return Fault(name)
    except ValueError:
        near = difflib.get_close_matches(name, list(Fault), n=1)
        hint = f"did you mean {str(near[0])!r}? " if near else ""
        raise InputError(f"no fault is called {name!r}; {hint}Known: {', '.join(Fault)}") from None
