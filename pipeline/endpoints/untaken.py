"""Which fields of a request a rejection names as ones that the model or the server does not take.

Only fields that were sent are looked for, so that the wording of a vendor matters little. Sources: OpenAI and Azure
(`unsupported_parameter`, `unsupported_value`, `Unrecognized request argument supplied`), LiteLLM
(`UnsupportedParamsError`), vLLM, Mistral and Anthropic (`Extra inputs are not permitted`), Google (`Unknown name`), xAI
and Groq, as their pages and reports of users have them.
"""

import re
from collections.abc import Iterable
from typing import Final

CODES: Final = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"})
"""With these, the error's own `param` names the field."""
_NOT_TAKEN: Final = re.compile(
    r"unsupported|not supported|(does not|do not|doesn't|don't|not) (support|take|accept|allow)|unrecogni[sz]ed|unknown"
    r"|unexpected (keyword|argument|field|param)|extra inputs|extra_forbidden|extra fields|not permitted|not allowed"
    r"|(can ?not|may not|may only|can only) be (used|set|specified|provided)|can ?not use"
    r"|deprecated|only the default|cannot find field|no such (field|param)",
    re.IGNORECASE,
)
_WORD: Final = (
    r"""(?:["'`\[]{name}["'`\]:=]|\b{name}\s*=|supplied: (?:\w+, )*{name}\b|param(?:eter)?s? {name}\b|^{name}:)"""
)
"""Marked as a name: only so does an ordinary word count."""
_COMPOUND: Final = r"(?<![\w.]){name}(?!\w)"
"""No ordinary word."""


def untaken_fields(sent: Iterable[str], message: str, param: str | None) -> tuple[str, ...]:
    """The names among `sent` that a rejection with these words is about; empty for another one.

    `param` is the field that an error with one of `CODES` names.
    """
    names = tuple(sent)
    if param is not None:
        return tuple(name for name in names if name in {param, param.partition(".")[0]})
    if not _NOT_TAKEN.search(message):
        return ()
    marked = tuple(
        name for name in names if _is_named(name, message, _WORD)
    )  # others may be in a list of what is taken
    return marked or tuple(name for name in names if "_" in name and _is_named(name, message, _COMPOUND))


def _is_named(name: str, message: str, pattern: str) -> bool:
    head, *tail = name.split("_")
    spellings = {name, head + "".join(map(str.capitalize, tail))}  # xAI: presencePenalty
    return any(re.search(pattern.replace("{name}", re.escape(one)), message) for one in spellings)
