"""The text of an answer: in a string or in parts, and without the thoughts of the model.

Sources: OpenAI's API reference (parts of a message); Mistral, "Reasoning" (thoughts as parts of their own); DeepSeek-R1
and Qwen3 model cards (`<think>` around thoughts, where the server has no parser for them; templates that put the
opening tag into the prompt, so that an answer has the closing one only).
"""

from typing import Final

from pipeline.endpoints.json_values import string_of, word_of

_OPEN, _CLOSE = "<think>", "</think>"
_TEXTS: Final = frozenset({"text", "output_text"})


def text_of(content: object) -> str:
    """A string, or the strings and the text parts of a list, or one part; parts that hold thoughts are no text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else _text_in(part) for part in parts)


def refusal_in(content: object) -> str | None:
    """The refusal among the parts of a message; None where there is none."""
    parts = content if isinstance(content, list) else []
    refusals = [part.get("refusal") for part in parts if isinstance(part, dict) and part.get("type") == "refusal"]
    return "".join(words for words in refusals if isinstance(words, str)) or None


def without_thoughts(text: str) -> str:
    """The text without `<think>...</think>`, however often it comes.

    Thoughts without an end reach to the end of the text; without a beginning they reach from its beginning.
    """
    if _OPEN not in text and _CLOSE not in text:
        return text
    kept: list[str] = []
    rest = text.partition(_CLOSE)[2] if _is_begun_in_the_prompt(text) else text
    while rest:
        before, opened, thoughts = rest.partition(_OPEN)
        kept.append(before)
        rest = thoughts.partition(_CLOSE)[2] if opened else ""
    return "".join(kept).replace(_CLOSE, "").strip()


def share_of_thoughts(texts: list[str], answers: list[str]) -> float:
    """The share that thoughts have of the characters of `texts`, which are `answers` without them."""
    whole = sum(map(len, texts))
    return 1 - sum(map(len, answers)) / whole if whole else 0.0


def _is_begun_in_the_prompt(text: str) -> bool:
    close = text.find(_CLOSE)
    return close >= 0 and _OPEN not in text[:close]


def _text_in(part: object) -> str:
    if not isinstance(part, dict) or word_of(part.get("type"), _TEXTS) is None:
        return ""
    return string_of(part.get("text")) or ""
