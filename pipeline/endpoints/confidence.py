"""How sure a model is of its answer, by the `logprobs` of a choice.

Source: OpenAI's API reference, chat/completions (`choices[].logprobs.content[]`: token, logprob, top_logprobs).
"""

from math import exp


def mean_probability(logprobs: object) -> float | None:
    """The mean probability of the tokens of an answer's text; None where the response has none."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return None
    each = [token.get("logprob") for token in content if isinstance(token, dict)]
    known = [exp(min(0.0, value)) for value in each if isinstance(value, int | float) and not isinstance(value, bool)]
    return sum(known) / len(known) if known else None
