"""What a request is billed: image tokens by the published rule of the model's family, text tokens by our estimate."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from pipeline.catalogue import Family, family_named, family_of, rule_of
from pipeline.catalogue.facts import on_host
from pipeline.tokens import TokenRule
from pipeline.tokens.analysed import AnalysedRule
from pipeline.tokens.text import BYTES_PER_TOKEN, message_tokens

SERVED = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4-turbo", "gpt-5", "gpt-5.1", "o1", "o3")
"""The models that `/v1/models` lists where none are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Tokens of one request; `completion_tokens` are those of all choices together."""

    text_tokens: int
    image_tokens: int
    completion_tokens: int
    pages: int = 0
    """In place of tokens."""

    @property
    def prompt_tokens(self) -> int:
        return self.text_tokens + self.image_tokens


@lru_cache(maxsize=64)
def _family(model: str, named: str | None, own: Path | None) -> Family | None:
    return family_of(model, own) if named is None else family_named(named, own)


@dataclass(frozen=True, slots=True)
class Billing:
    """By whose rules images are billed, and which field bounds an answer. Raises InputError for what is not known."""

    model_family: str | None = None
    """Of every model, whatever its name; None: its name tells."""
    catalogue: Path | None = None
    """A user's own families, which count first."""
    rules_of: str = ""
    """The host whose own rules count, where there are any."""

    def __post_init__(self) -> None:
        self.family("")

    def image_rule(self, model: str) -> TokenRule:
        """What an estimate expects: the rule that counts today; the median of all rules for an unknown model."""
        return rule_of(self.family(model), datetime.now(UTC).date(), self.rules_of)

    def names_a_reader(self, model: str) -> bool:
        """Whether a model's name has another one read the images first (302.AI, "Image analysis")."""
        return model.endswith("-ocr") and on_host(("302.ai",), self.rules_of)

    def reading_rule(self, model: str) -> TokenRule:
        """What a model is billed for images that another one has read for it."""
        family, rule = self.family(model), self.image_rule(model)
        return AnalysedRule(rule, rule if family is not None and family.rules else None)

    def wants_max_completion_tokens(self, model: str) -> bool:
        """Whether `max_tokens` is refused: the reasoning models (OpenAI, API reference, chat completions)."""
        family = self.family(model)
        return family is not None and family.max_tokens_field == "max_completion_tokens"

    def json_schema(self, model: str) -> str:
        """How the model's family takes schemas, as the catalogue has it."""
        family = self.family(model)
        return "unknown" if family is None else family.json_schema

    def family(self, model: str) -> Family | None:
        return _family(model, self.model_family, self.catalogue)


BY_NAME = Billing()


def prompt_text_tokens(texts: Sequence[str], messages: int) -> int:
    """The part of a prompt that is no image, its texts spread over as many messages."""
    return message_tokens("".join(texts), *[""] * (messages - 1))


def cut_to_tokens(text: str, max_tokens: int) -> str:
    """The longest beginning of `text` that is billed at most `max_tokens`."""
    return text.encode()[: int(max_tokens * BYTES_PER_TOKEN)].decode(errors="ignore")
