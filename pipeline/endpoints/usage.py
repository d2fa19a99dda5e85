"""What is believed of the usage and the cost that a response states.

An endpoint may state anything: nothing, part of it, counts that contradict each other, or numbers that no request can
reach. What is believed is either consistent or absent, and what is absent counts as the request's reservation.

Sources: OpenAI's API reference (`usage`), OpenRouter ("Usage accounting"), AI/ML API (`usd_spent`, `credits_used`, and
their price), LiteLLM's proxy ("Response headers"), Google
("OpenAI compatibility", thoughts), Anthropic (Messages API, cache), xAI ("Reasoning"), DeepSeek ("Context caching").
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from pipeline.endpoints.json_values import dict_of
from pipeline.limits.budget import Amounts
from pipeline.records import Usage

BEYOND: Final = 1_000
"""How many times its predicted upper bound a request may be billed before that is no bill: gpt-4o-mini bills 33 times
the image tokens of gpt-4o, and a model that reasons beyond `max_tokens` of 300 may bill 128,000, which is 426 times.
"""
ALWAYS_TOKENS: Final = 1_000_000
"""Believed in any case, however small the request: the longest reasoning is a tenth of it."""
ALWAYS_USD: Final = Decimal(1)
MOST_TOKENS: Final = 10**10
"""Never believed beyond, so that the sums of a hundred million records fit 64 bits."""
MOST_USD: Final = Decimal(1_000)
"""Where no price is known: a million tokens of the dearest published price (USD 600 a million) cost less."""
_LEAST_USD: Final = Decimal("1e-12")
"""One token at a millionth of a dollar a million; what states less has lost its exponent."""
_MOST_EXPONENT: Final = 30
"""Of a figure in dollars or credits, up or down; sums of numbers beyond it would overflow."""
_SHOWN_CHARS: Final = 40
_USD_PER_CREDIT: Final = Decimal("0.0000005")
"""AI/ML API: a dollar buys 2,000,000 credits (2,574 credits are $0.001287)."""

_NO_COST: Final = (None, "", "None")
"""No figure; the last as LiteLLM's proxy writes it."""

_PROMPT = ("prompt_tokens", "prompt_token_count", "promptTokenCount")
_COMPLETION = ("completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount")
_TOTAL = ("total_tokens", "total_token_count", "totalTokenCount")
_THOUGHTS = ("thoughts_token_count", "thoughtsTokenCount")
_CACHED = (
    "cache_read_input_tokens",
    "cached_content_token_count",
    "cachedContentTokenCount",
    "prompt_cache_hit_tokens",  # DeepSeek
)
_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens")


@dataclass(frozen=True, slots=True)
class StatedBill:
    """What a response says that its request took, as far as it is believed."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    """The provider's own figure in US dollars; None where it states none that is believed."""
    doubts: tuple[str, ...] = ()
    """What is not believed, in words: `completion_tokens is -5`."""


def believed(
    parsed: Mapping[str, Any], headers: Mapping[str, str], most: Amounts | None = None, *, has_text: bool = True
) -> StatedBill:
    """Read a response's usage and cost. `most` is the predicted upper bound of its request.

    Counts that no request can have are left out. Where one of prompt, completion and total is missing, it follows
    from the other two. Where they contradict each other, the reading that costs most counts. `has_text` says that the
    answer is not empty: then it has output tokens, and so it may have where the total does not say otherwise.
    `headers` are case-insensitive, or in lower case.
    """
    limit = Amounts() if most is None else most
    reader = _Reader(most_tokens=min(MOST_TOKENS, max(ALWAYS_TOKENS, BEYOND * (limit.tokens or 0))))
    usage = reader.usage(_details(parsed, "usage", "usageMetadata"), has_text=has_text)
    cost_usd = reader.cost(parsed, headers, limit.nano_usd)
    return StatedBill(usage, cost_usd, tuple(reader.doubts))


class _Reader:
    """Reads one response, and remembers what it could not believe."""

    def __init__(self, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self.doubts: list[str] = []

    def usage(self, stated: Mapping[str, Any], *, has_text: bool) -> Usage:
        """Thoughts are part of the completion, what was cached is part of the prompt."""
        prompt_details = _details(stated, "prompt_tokens_details", "input_tokens_details")
        output_details = _details(stated, "completion_tokens_details", "output_tokens_details")
        prompt = self._prompt(stated)
        thoughts, completion = self._first(stated, _THOUGHTS), self._first(stated, _COMPLETION)
        cached = self._first(prompt_details, ("cached_tokens",))
        reasoning = self._first(output_details, ("reasoning_tokens",))
        usage = Usage(
            prompt_tokens=prompt,
            cached_tokens=self._first(stated, _CACHED) if cached is None else cached,
            completion_tokens=completion if thoughts is None else (completion or 0) + thoughts,
            reasoning_tokens=thoughts if reasoning is None else reasoning,
            total_tokens=self._first(stated, _TOTAL),
        )
        apart = sum(_count(stated.get(name)) or 0 for name in _CACHE)
        return self._parts_within(_completed(self._without_contradictions(usage, apart, has_text=has_text)))

    def _prompt(self, stated: Mapping[str, Any]) -> int | None:
        prompt, native = self._first(stated, _PROMPT), self._first(stated, ("input_tokens",))
        if prompt is not None or native is None or "input_tokens_details" in stated:
            return native if prompt is None else prompt
        # Anthropic, Messages API: what is read from and written to the cache is not part of input_tokens.
        return native + sum(self._first(stated, (name,)) or 0 for name in _CACHE)

    def _first(self, stated: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
        for name in names:
            value = stated.get(name)
            if value is None:
                continue
            if (count := _count(value)) is not None and count <= self._most_tokens:
                return count
            self._doubt(name, value)
        return None

    def _without_contradictions(self, usage: Usage, apart: int, *, has_text: bool) -> Usage:
        """Without counts that contradict what was sent, what came back, or the other counts.

        A total that is too small is left out; it may lack what was cached (`apart`).
        """
        if usage.prompt_tokens == 0:
            self._doubt("prompt_tokens", 0)
            usage = replace(usage, prompt_tokens=None)
        if usage.completion_tokens == 0 and (has_text or usage.total_tokens != usage.prompt_tokens):
            self._doubt("completion_tokens", 0)
            usage = replace(usage, completion_tokens=None)
        parts = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        if usage.total_tokens is not None and usage.total_tokens < max(1, parts):
            if usage.total_tokens + apart < parts or not parts:
                self._doubt("total_tokens", usage.total_tokens)
            usage = replace(usage, total_tokens=None)
        return usage

    def _parts_within(self, usage: Usage) -> Usage:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is not None and usage.cached_tokens is not None and usage.cached_tokens > prompt:
            self._doubt("cached_tokens", usage.cached_tokens)
            usage = replace(usage, cached_tokens=None)
        if completion is not None and usage.reasoning_tokens is not None and usage.reasoning_tokens > completion:
            self._doubt("reasoning_tokens", usage.reasoning_tokens)
            usage = replace(usage, reasoning_tokens=None)
        return usage

    def cost(self, parsed: Mapping[str, Any], headers: Mapping[str, str], most_nano_usd: int | None) -> Decimal | None:
        """The first figure in dollars, else in credits. Nothing is free where the price is known and not zero."""
        bound = MOST_USD if most_nano_usd is None else max(ALWAYS_USD, BEYOND * Decimal(most_nano_usd).scaleb(-9))
        for name, value, usd in _stated_costs(parsed, headers):
            if value in _NO_COST or isinstance(value, Mapping):  # some itemise it, which says nothing of the sum
                continue
            amount = _amount(value)
            amount = None if amount is None else amount * usd
            if amount is not None and (_LEAST_USD <= amount <= bound or (amount == 0 and not most_nano_usd)):
                return amount
            self._doubt(name, value)
        return None

    def _doubt(self, name: str, value: object) -> None:
        text = repr(value)
        self.doubts.append(f"{name} is {text if len(text) <= _SHOWN_CHARS else f'{text[:_SHOWN_CHARS]}...'}")


def _stated_costs(parsed: Mapping[str, Any], headers: Mapping[str, str]) -> list[tuple[str, Any, Decimal]]:
    """What a response may state of its cost: a name, its value, and the dollars that one of it is."""
    meta, usd = dict_of(dict_of(parsed.get("meta")).get("usage")), Decimal(1)
    return [
        ("cost", _with_upstream(dict_of(parsed.get("usage"))), usd),
        ("usd_spent", meta.get("usd_spent"), usd),
        *((name, headers.get(name), usd) for name in ("x-aimlapi-usd-spent", "x-litellm-response-cost")),
        ("credits_used", meta.get("credits_used"), _USD_PER_CREDIT),
        ("x-aimlapi-credits-used", headers.get("x-aimlapi-credits-used"), _USD_PER_CREDIT),
    ]


def _completed(usage: Usage) -> Usage:
    """The usage with the count that follows from two of prompt, completion and total; the dearer of two readings.

    Where the total holds more than prompt and completion, the rest is thoughts, billed as output: Gemini's compatible
    layer leaves them out of `completion_tokens`, and often does not name them; xAI names them. Or it is the cache,
    where just as much was cached.
    """
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if prompt is None or completion is None:
        return _derived(usage)
    cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
    if total is None:
        beside = reasoning if reasoning is not None and reasoning > completion else 0
        return replace(usage, completion_tokens=completion + beside, total_tokens=prompt + completion + beside)
    missing = total - prompt - completion
    if missing == 0:
        return usage
    if cached == missing and reasoning != missing:
        return replace(usage, prompt_tokens=prompt + missing)
    named = missing if reasoning is None else reasoning
    return replace(usage, completion_tokens=completion + missing, reasoning_tokens=named)


def _derived(usage: Usage) -> Usage:
    """Where only one of prompt and completion is stated, the total gives the other."""
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    known = completion if prompt is None else prompt
    if total is None or known is None or total == known:
        return usage
    if prompt is None:
        return replace(usage, prompt_tokens=total - known)
    return replace(usage, completion_tokens=total - known)


def _with_upstream(usage: Mapping[str, Any]) -> object:
    """`cost`; with the user's own key OpenRouter's is its fee alone, and the provider's bill stands beside it."""
    fee = _amount(usage.get("cost"))
    upstream = _amount(dict_of(usage.get("cost_details")).get("upstream_inference_cost"))
    if usage.get("is_byok") is not True or fee is None or upstream is None or min(fee, upstream) < 0:
        return usage.get("cost")
    return fee + upstream


def _details(stated: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The first of these objects that says something."""
    return next(filter(None, (dict_of(stated.get(name)) for name in names)), {})


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if value >= 0 else None


def _amount(value: object) -> Decimal | None:
    # A float's shortest repr is the decimal that the provider wrote, up to 15 digits: nothing is lost by
    # parsing a thousand bodies fast instead of each with Decimals.
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        amount = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):
        return None
    return amount if amount.is_finite() and abs(amount.adjusted()) < _MOST_EXPONENT else None
