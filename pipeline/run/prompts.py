"""The prompts of a run: the template of each one's requests, and how many tokens its text has."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.catalogue import Family
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import RequestConfig
from pipeline.endpoints.adapter import EndpointAdapter, RequestTemplate, adapter_of
from pipeline.records import ImageRecord
from pipeline.run.labels import common_mode, longest_schema_words, schema_words
from pipeline.run.parameters import EffectiveRequest
from pipeline.run.rendering import Rendering, rendering_of
from pipeline.tokens.text import message_tokens, most_message_tokens


@dataclass(slots=True)
class TextTokens:
    """How many tokens the texts of a request have: estimated, until the first bill shows it."""

    tokens: int
    texts: tuple[str | None, ...]
    """Of each message."""
    is_billed: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a run."""

    request: RequestConfig
    template: RequestTemplate
    """Of every request; where the text is rendered for each record, as it is written."""
    tokens: TextTokens
    most_tokens: int
    adapter: EndpointAdapter
    max_tokens_field: str
    schema_words: tuple[str | None, str | None] = (None, None)
    """The text that a schema adds, and the longest that it may add."""
    rendering: Rendering | None = None
    """Where the text holds columns of the record."""

    @property
    def name(self) -> str:
        return self.request.prompt_name

    def rendered(self, record: ImageRecord) -> "Prompt":
        """The prompt for this record. Raises InputError where the template and the record do not fit."""
        if self.rendering is None:
            return self
        request = self.request.model_copy(update=self.rendering(record))
        return _prompt(request, self.adapter, self.max_tokens_field, self.schema_words)


def prompts_of(config: RunConfig, family: Family | None, effective: EffectiveRequest) -> Iterator[Prompt]:
    """Every prompt of a configuration, in order, as `effective` sends it.

    Raises InputError where a setting cannot be sent.
    """
    wanted = config.request.max_tokens_field
    field_name = (family.max_tokens_field if family else "max_tokens") if wanted == "auto" else wanted
    words = schema_words(config), longest_schema_words(config)
    sent = effective.sent
    changed = {name: value for name, value in sent if value != getattr(config.request, name)}
    for asked in config.requests:
        request = asked.model_copy(update=changed)
        if request.labels is not None:
            request = request.model_copy(update={"labels_mode": common_mode(config).value})
        prompt = _prompt(request, adapter_of(config), field_name, (None, None) if request.labels is None else words)
        rendering = rendering_of(request)
        if rendering is not None:
            # The bill of one record says nothing of another's text.
            prompt = replace(prompt, rendering=rendering, tokens=replace(prompt.tokens, is_billed=True))
        yield prompt


def _prompt(
    request: RequestConfig, adapter: EndpointAdapter, max_tokens_field: str, words: tuple[str | None, str | None]
) -> Prompt:
    texts = *request.message_texts, words[0]
    return Prompt(
        request=request,
        template=adapter.template(request, request.model or "", max_tokens_field),
        tokens=TextTokens(message_tokens(*texts), texts),
        most_tokens=most_message_tokens(*request.message_texts, words[1]),
        adapter=adapter,
        max_tokens_field=max_tokens_field,
        schema_words=words,
    )
