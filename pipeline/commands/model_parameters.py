"""What a model takes beside its images, as lines for people."""

from pipeline.catalogue import Source
from pipeline.catalogue.facts import Parameters, Reasoning


def request_lines(reasoning: Reasoning | None, parameters: Parameters) -> list[str]:
    """How a model reasons, and the parameters that it does not take; nothing where nothing is known."""
    return [*_reasoning_lines(reasoning), *_parameter_lines(parameters)]


def _reasoning_lines(reasoning: Reasoning | None) -> list[str]:
    if reasoning is None:
        return ["reasoning    none unless a request asks for it: nothing is added to max_tokens"]
    lowest, tokens = reasoning.lowest, reasoning.allowance_at(reasoning.lowest)
    efforts = ", ".join(f"{effort} +{more:,}" for effort, more in reasoning.efforts.items())
    sent = f"reasoning_effort {lowest} is sent" if lowest else "there is no reasoning_effort to send"
    said = [f"reasoning    {sent}, and {tokens:,} tokens are added to max_tokens{_marked(reasoning)}"]
    said += [f"             its efforts and their tokens: {efforts}"] if efforts else []
    return said + _source(reasoning.source)


def _parameter_lines(parameters: Parameters) -> list[str]:
    fixed = tuple(f"{name} other than {value:g}" for name, value in parameters.fixed.items())
    only = parameters.only_without_reasoning
    facts = (
        ("it does not take", (*parameters.rejects, *fixed)),
        ("only with reasoning_effort none:", only),
        ("it ignores", parameters.ignores),
    )
    said = [f"{what} {', '.join(names)}" for what, names in facts if names]
    if not said:
        return []
    return [f"parameters   {'; '.join(said)}{_marked(parameters)}", *_source(parameters.source)]


def _marked(fact: Reasoning | Parameters) -> str:
    note = f"; {fact.note}" if fact.note else ""
    return f" ({fact.evidence}{note})"


def _source(source: Source | None) -> list[str]:
    return [] if source is None else [f"             {source.title}, read {source.checked_on}: {source.url}"]
