"""How sure a model is of its answer, by the `logprobs` of a choice.

Source: OpenAI's API reference, chat/completions (`choices[].logprobs.content[]`: token, logprob, top_logprobs).
"""

from math import exp

from pipeline.endpoints.json_values import dicts_of, number_of


def mean_probability(logprobs: object) -> float | None:
    """The mean probability of the tokens of an answer's text; None where the response has none."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    each = [number_of(token.get("logprob")) for token in dicts_of(content)]
    known = [exp(min(0.0, value)) for value in each if value is not None]
    return sum(known) / len(known) if known else None
