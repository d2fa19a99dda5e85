"""What a run must never store or show, and how foreign text is freed from it where it enters.

A server may repeat keys and headers in anything that it sends: as they are, quoted for an address, escaped for JSON
or HTML, or in base64. A server can always hide a key in its answers on purpose; this is no defence
against one that does, but nothing that servers, gateways and proxies really echo gets through.
"""

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from pipeline.formatting import whole
from pipeline.records import Answer, Failure
from pipeline.redaction.addresses import public_text

MASK: Final = "***"
ANYWHERE: Final = 8
"""Characters from which on a secret is masked inside of words too. A shorter one may be a part of any word."""
SHORTEST: Final = 4
"""Characters of the shortest secret. One of three is guessed in minutes, and to mask `cat` or `sky` damages answers."""
LONGEST_WORD: Final = 16
"""A secret of letters alone up to this length may be a word of an answer, and is masked everywhere else only."""
PLACEHOLDERS: Final = frozenset(
    {
        *("anything", "default", "dummy", "empty", "fake", "local", "lm-studio", "lmstudio", "no-key", "no_key"),
        *("no-key-required", "none", "not-needed", "not-required", "null", "ollama", "sk-no-key-required", "test"),
        *("token", "unused", "vllm"),
    }
)
"""Placeholders in the documentation of servers without keys. It is no secret, and some are names of models."""

_LAYERS: Final = 3
"""An echo in an error in an error is quoted so often."""
_QUOTED: Final = ("%", "\\", "&")
_UNICODE: Final = re.compile(r"\\+u([0-9a-fA-F]{4})|\\+x([0-9a-fA-F]{2})")
_BACKSLASHES: Final = re.compile(r"\\+(?=[\"/\\])")
_ANSWERS: Final = frozenset({"caption", "captions"})
_SECRET_NAME: Final = re.compile(
    r"(api[-_]?key|(^|[^a-z])(key|auth|sig|pwd)|token|secret|password|passwd|credentials?|authorization|cookie"
    r"|signature|bearer)$",
    re.IGNORECASE,
)
_PUBLIC_HEADERS: Final = frozenset(
    {"http-referer", "x-title", "user-agent", "anthropic-version", "anthropic-beta", "openai-organization",
     "openai-project", "accept", "accept-language", "x-api-version"}
)  # fmt: skip
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}|[a-z][a-z_]{0,63}")
_MOST_DIGITS: Final = 4
"""Of a variable's name: `KEY_2026` is one, and 32 hexadecimal digits are a key."""

T = TypeVar("T", bound=Answer | Failure)


def is_secret_name(name: str) -> bool:
    """Whether a field, header or variable of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def is_public_header(name: str) -> bool:
    """Whether the value of this header of a request is known to be no secret; of any other it is taken for one."""
    return name.lower() in _PUBLIC_HEADERS


def is_variable_name(text: str) -> bool:
    """Whether this is surely the name of an environment variable, and not a key given in its place."""
    return _VARIABLE.fullmatch(text) is not None and sum(map(str.isdigit, text)) <= _MOST_DIGITS


def shown_variable(name: str) -> str:
    """A variable's name for people, unless it may be a key."""
    return name if is_variable_name(name) else "(not shown: it may be the key itself)"


def header_secrets(headers: Mapping[str, str]) -> list[str]:
    """What of these headers is secret: whole values, what follows `Bearer`, and both halves of a `Basic` login."""
    found = []
    for name, value in headers.items():
        if is_public_header(name):
            continue
        scheme, _, rest = value.partition(" ")
        found += [value, rest]
        if scheme.lower() == "basic":
            login = _from_base64(rest.strip())
            found += [login, *login.split(":", 1)]
    return found


class Redactor:
    """Masks a run's secrets in text, and replaces lone surrogates; made once a run, from all of its secrets."""

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        known = {text.strip() for text in secrets if text is not None}
        known = {text for text in known if len(text) >= SHORTEST and text.lower() not in PLACEHOLDERS}
        self.text = _Masker(known)
        """For everything but answers: messages, names, identifiers."""
        self.answer = _Masker({text for text in known if not (text.isalpha() and len(text) <= LONGEST_WORD)})
        """For what a model has written about an image."""

    def result(self, result: T) -> T:
        """The same answer or failure with every text in it clean."""
        if isinstance(result, Answer) and result.columns:
            result = replace(result, columns=_mapped(result.columns, self.answer))
        texts = {name: getattr(result, name) for name in _TEXTS[type(result)]}
        together = _together(texts)
        if _is_whole(together) and not self.text.finds(together):
            return result
        clean: dict[str, Any] = {name: self._cleaned(name, value) for name, value in texts.items()}
        if self.answer.finds(_together(clean)):  # one secret in pieces
            clean = {name: _masked(value) for name, value in clean.items()}
        return replace(result, **clean)

    def tree(self, value: Any) -> Any:  # noqa: ANN401 - JSON is whatever the endpoint sends
        """Plain values, as of JSON, with every string in them clean, those that name fields included."""
        return _mapped(value, self.text)

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The user's own configuration: a prompt may hold any word, but no key."""
        return {name: _mapped(value, self.answer) for name, value in values.items()}

    def _cleaned(self, name: str, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        mask = self.answer if name in _ANSWERS else self.text
        if value is None or isinstance(value, str):
            return value if value is None else mask(value)
        return tuple(map(mask, value))


class _Masker:
    """Finds some secrets in a text, quoted or not, and masks them."""

    def __init__(self, secrets: set[str]) -> None:
        longest_first = sorted(secrets, key=len, reverse=True)
        forms = dict.fromkeys(form for secret in longest_first for form in (secret, *_in_base64(secret)))
        self._long = tuple(form for form in forms if len(form) >= ANYWHERE)
        self._words = {form: re.compile(_word(form)) for form in forms if len(form) < ANYWHERE}

    def __call__(self, text: str) -> str:
        """`text` without its secrets; unquoted as far as it has to be where one stands in it quoted."""
        text = whole(text)
        for _ in range(_LAYERS + 1):
            if not self.finds(text):
                return text
            text = _unquoted(text) if (masked := self._masked(text)) == text else masked
        return MASK if self.finds(text) else text

    def finds(self, text: str) -> bool:
        """Whether a secret stands in the text as it is, or as it is once unquoted."""
        for _ in range(_LAYERS):
            if self._stands_in(text):
                return True
            if not any(map(text.__contains__, _QUOTED)) or (plain := _unquoted(text)) == text:
                return False
            text = plain
        return self._stands_in(text)

    def _stands_in(self, text: str) -> bool:
        if any(map(text.__contains__, self._long)):
            return True
        return any(form in text and word.search(text) for form, word in self._words.items())

    def _masked(self, text: str) -> str:
        for form in self._long:
            text = text.replace(form, MASK)
        for word in self._words.values():
            text = word.sub(MASK, text)
        return text


NOTHING_SECRET: Final = Redactor()
"""For text in which no secret can be: it is made whole only."""


def _mapped(value: Any, mask: Callable[[str], str]) -> Any:  # noqa: ANN401 - as `Redactor.tree`
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {_mapped(name, mask): _mapped(item, mask) for name, item in value.items()}
    return [_mapped(item, mask) for item in value] if isinstance(value, list | tuple) else value


_TEXTS: Final[Mapping[type, Sequence[str]]] = {
    kind: [field.name for field in fields(kind) if field.type in {str, str | None, tuple[str, ...]}]
    for kind in (Answer, Failure)
}
"""The fields of each that hold text: a new one is among them."""


def _together(texts: Mapping[str, str | tuple[str, ...] | None]) -> str:
    """All choices follow each other without a gap: a secret may be split over them."""
    return "\n".join(value if isinstance(value, str) else "".join(value) for value in texts.values() if value)


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _masked(value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    return MASK if isinstance(value, str) else (MASK,) * len(value)


def _word(secret: str) -> str:
    return rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])"


def _unquoted(text: str) -> str:
    text = _BACKSLASHES.sub("", _UNICODE.sub(lambda found: chr(int(found[1] or found[2], 16)), text))
    return html.unescape(unquote(text))


def _in_base64(secret: str) -> list[str]:
    """The characters that are the same wherever the secret stands in what is encoded; both alphabets."""
    if len(secret) < ANYWHERE:
        return []
    forms = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode("utf-8", "replace")).decode()
        # The first characters hold bits of what stands before, the last of what follows.
        first, last = -(-before * 8 // 6), (before + len(secret.encode("utf-8", "replace"))) * 8 // 6
        forms.append(encoded[first:last])
    return [*forms, *(form.replace("+", "-").replace("/", "_") for form in forms)]


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""


MESSAGE_CHARACTERS: Final = 300
"""How much of a provider's words a row keeps."""


_EXCERPT_BYTES: Final = 65_536


def one_line(text: str, redactor: Redactor = NOTHING_SECRET) -> str:
    """At most `MESSAGE_CHARACTERS` printable characters on one line, without keys and secrets of addresses."""
    text = _KEY_LIKE.sub(MASK, public_text(redactor.text(text))[:_EXCERPT_BYTES])
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 1] + "…"


# Keys as providers repeat them, whole or starred out: sk-..., AIza..., Bearer ..., abcd****wxyz.
_KEY_LIKE = re.compile(
    r"\b(?:sk|xai)-[\w*.…-]{6,}|\bgsk_\w{8,}|\bAIza[\w-]{20,}|(?<=Bearer )[\w.~+/=-]{8,}"
    r"|[\w.-]{0,64}\*{3,}[\w.-]{0,64}"
)
