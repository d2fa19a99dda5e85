"""The request that a configuration comes to with what the catalogue has of its model.

The lowest effort of reasoning and the room for it are added; a parameter that the model does not take is refused, or
left out where `request.adapt` says so. The declared configuration stays as it is: a new fact disowns no dataset.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.catalogue import Family
from pipeline.catalogue.facts import Parameters, Reasoning
from pipeline.catalogue.tiers import tier_named, tiers_of
from pipeline.config.families import family_for
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import RequestConfig
from pipeline.endpoints.adapter import LimitedAdapter, adapter_of
from pipeline.errors import InputError
from pipeline.run.model import reader_notes
from pipeline.tokens import TokenRule
from pipeline.tokens.pages import BY_PAGE

NO_REASONING = "none"
"""The effort at which a model that can reason does not."""
_LISTED_TIERS = frozenset({"flex", "priority"})
"""Tiers whose models the catalogue lists."""


@dataclass(frozen=True, slots=True)
class EffectiveRequest:
    """What is sent, and the room for reasoning."""

    request: RequestConfig
    """With the effort of reasoning, and without what is left out; `max_tokens` is that of the answer alone."""
    allowance: int = 0
    """Tokens for reasoning, which `sent` adds to `max_tokens`."""
    notes: tuple[str, ...] = ()
    """What is left out, and what has no effect."""

    @property
    def sent(self) -> RequestConfig:
        """The same with the limit of tokens as it is sent."""
        most = self.request.max_tokens
        if most is None or not self.allowance:
            return self.request
        return self.request.model_copy(update={"max_tokens": most + self.allowance})

    @property
    def max_answer_tokens(self) -> int | None:
        """The most that all choices together may be billed; None where nothing bounds them."""
        most = self.sent.max_tokens
        return None if most is None else most * self.request.n


@dataclass(frozen=True, slots=True)
class _Untaken:
    """A parameter that a model does not take."""

    name: str
    value: object
    why: str
    """What follows the model's name: `does not take it`."""

    @property
    def words(self) -> str:
        return f"`request.{self.name}={self.value}`"


def effective_request(config: RunConfig, rule: TokenRule, *, adapts: bool = False) -> EffectiveRequest:
    """The request as it is sent to the first endpoint's model, by whose `rule` images are billed.

    Raises InputError for parameters that the model does not take, unless `adapts` or the configuration has them left
    out.
    """
    if rule is BY_PAGE:
        return EffectiveRequest(config.request)
    family, request = family_for(config), config.request
    effort = _effort(request, family)
    untaken = [*_untaken(request, effort, family), *_untaken_detail(request, rule)] if family else []
    untaken += [*_untaken_tier(config), *_untaken_api(config)]
    if untaken and not (adapts or request.adapt):
        raise InputError(_refusal(untaken, request.model or "this model"))
    fields = RequestConfig.model_fields
    changes = {one.name: fields[one.name].default for one in untaken}
    effort = _effort(request.model_copy(update=changes), family)
    changed = request.model_copy(update={**changes, "reasoning_effort": effort})
    notes = [f"{one.words} is left out: {request.model} {one.why}" for one in untaken]
    notes += [*_ignored(changed, family), *_chosen_api(config, family), *reader_notes(config)]
    return EffectiveRequest(changed, _allowance(changed, family), tuple(notes))


def _effort(request: RequestConfig, family: Family | None) -> str | None:
    if request.reasoning_effort is not None or family is None or family.reasoning is None:
        return request.reasoning_effort
    return family.reasoning.lowest


def _allowance(request: RequestConfig, family: Family | None) -> int:
    if request.reasoning_allowance is not None:
        return request.reasoning_allowance
    if family is None or family.reasoning is None or request.extra.get("enable_thinking") is False:
        return 0
    return family.reasoning.allowance_at(request.reasoning_effort)


def _untaken(request: RequestConfig, effort: str | None, family: Family) -> Iterator[_Untaken]:
    known, reasoning = family.parameters, family.reasoning
    for name, value in request.sent_parameters.items():
        why = _why_not(name, value, effort, known, reasoning)
        if why is not None:
            yield _Untaken(name, value, why)


def _why_not(
    name: str, value: object, effort: str | None, known: Parameters, reasoning: Reasoning | None
) -> str | None:
    """Why a model does not take this value of a parameter; None where it does."""
    if name in known.rejects:
        return "does not take it"
    if name in known.fixed and value != known.fixed[name]:
        return f"takes only {known.fixed[name]:g}"
    if name in known.only_without_reasoning and effort != NO_REASONING:
        return "takes it only with `request.reasoning_effort=none`"
    if name == "reasoning_effort" and reasoning is not None and reasoning.efforts and value not in reasoning.efforts:
        return f"takes {', '.join(reasoning.efforts)}"
    return None


def _untaken_detail(request: RequestConfig, rule: TokenRule) -> Iterator[_Untaken]:
    if request.detail == "original" and rule.details and "original" not in rule.details:
        yield _Untaken("detail", request.detail, f"takes auto, {', '.join(rule.details)}")


def _untaken_tier(config: RunConfig) -> Iterator[_Untaken]:
    request = config.request
    tier, known = tier_named(request.service_tier), tiers_of(config.all_endpoints[0].model or request.model or "")
    if known and tier in _LISTED_TIERS and tier not in known:
        yield _Untaken("service_tier", request.service_tier, f"has the tiers default, {', '.join(known)}")


def _untaken_api(config: RunConfig) -> Iterator[_Untaken]:
    adapter, sent = adapter_of(config), config.request.sent_parameters
    for name in adapter.lacks if isinstance(adapter, LimitedAdapter) else ():
        if name in sent:
            yield _Untaken(name, sent[name], f"is asked through the API `{adapter.path}`, which does not have it")


def _chosen_api(config: RunConfig, family: Family | None) -> list[str]:
    """Where the catalogue and not the user says which API is asked."""
    one = config.all_endpoints[0]
    model = one.model or config.request.model or ""
    if one.api != "auto" or family is None or not family.lacks_chat(model):
        return []
    said = f" ({family.responses_source.title})" if family.responses_source else ""
    asked = f"{model} is asked through the Responses API: it has no chat/completions{said}"
    return [f"{asked}; `endpoint.api=chat` asks that where the server has it"]


def _refusal(untaken: list[_Untaken], model: str) -> str:
    each = "; ".join(f"{one.words}: {model} {one.why}" for one in untaken)
    return f"{each}. Change it, or have it left out with `request.adapt=true`; nothing was sent"


def _ignored(request: RequestConfig, family: Family | None) -> list[str]:
    names = [name for name in request.sent_parameters if family and name in family.parameters.ignores]
    return [f"{request.model} ignores {', '.join(f'`request.{name}`' for name in names)}"] if names else []
