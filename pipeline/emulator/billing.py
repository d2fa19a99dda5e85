"""What a request is billed: image tokens by the published rule of the model's family, text tokens by our estimate."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

from pipeline.catalogue import family_of, rule_of
from pipeline.policy.text import BYTES_PER_TOKEN, message_tokens
from pipeline.policy.tokens import OpenAITiles, TokenRule

SERVED = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4-turbo", "gpt-5", "gpt-5.1", "o1", "o3")
"""The models that `/v1/models` lists where none are named."""

DEFAULT_RULE = OpenAITiles("openai-tile", 85, 170)
"""Of models whose rule is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Tokens of one request; `completion_tokens` are those of all choices together."""

    text_tokens: int
    image_tokens: int
    completion_tokens: int

    @property
    def prompt_tokens(self) -> int:
        return self.text_tokens + self.image_tokens


def image_rule(model: str) -> TokenRule:
    """The rule of a model's family that counts today, gpt-4o's where none is known."""
    return _rule(model, datetime.now(UTC).date())


@lru_cache(maxsize=64)
def _rule(model: str, today: date) -> TokenRule:
    family = family_of(model)
    return DEFAULT_RULE if family is None or family.rule(today) is None else rule_of(family, today)


def wants_max_completion_tokens(model: str) -> bool:
    """Whether `max_tokens` is refused: the reasoning models (OpenAI, API reference, chat completions)."""
    family = family_of(model)
    return family is not None and family.max_tokens_field == "max_completion_tokens"


def prompt_text_tokens(texts: Sequence[str], messages: int) -> int:
    """The part of a prompt that is no image, its texts spread over as many messages."""
    return message_tokens("".join(texts), *[""] * (messages - 1))


def cut_to_tokens(text: str, max_tokens: int) -> str:
    """The longest beginning of `text` that is billed at most `max_tokens`."""
    return text.encode()[: int(max_tokens * BYTES_PER_TOKEN)].decode(errors="ignore")
