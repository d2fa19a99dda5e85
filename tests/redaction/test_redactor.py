"""A run's secrets in foreign text: found however they are written, and nothing else is touched."""

import base64
import html
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import product
from typing import Final
from urllib.parse import quote, unquote

import pytest

from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure, Status
from pipeline.redaction.redactor import Redactor, header_secrets, is_variable_name

KEY: Final = 'sk-proj-Ab+3/x_9"Zq&<01>23456789'
SECRETS: Final = (KEY, "0f9e8d7c6b5a4938", "HEADER value/with spaces+99", "pässword-0815", "hunter2")
FORMS: Final[Mapping[str, Callable[[str], str]]] = {
    "plain": str,
    "quoted": lambda text: quote(text, safe=""),
    "every octet quoted": lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
    "quoted twice": lambda text: quote(quote(text, safe=""), safe=""),
    "in JSON": lambda text: json.dumps({"key": text}),
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"key": text})),
    "every character escaped": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "escaped twice": lambda text: "".join(f"\\\\u{ord(character):04X}" for character in text),
    "HTML": html.escape,
    "HTML by numbers": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "HTML by hexadecimal numbers": lambda text: "".join(f"&#x{ord(character):X};" for character in text),
    "JSON, then quoted": lambda text: quote(json.dumps(text)),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a header": lambda text: base64.b64encode(f"Bearer {text}".encode()).decode(),
    "base64 of a login": lambda text: base64.urlsafe_b64encode(f"me:{text}\n".encode()).decode(),
}


def readable(text: str) -> str:
    """As far as anybody may unquote it."""
    for _ in range(6):
        text = html.unescape(unquote(text)).replace("\\\\", "\\").replace('\\"', '"')
        text = text.encode("utf-16", "surrogatepass").decode("utf-16").replace("\\/", "/")
    return text


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form(form: str) -> None:
    """Each secret is masked in each form, alone and within words, and what stands around it stays."""
    redactor = Redactor(SECRETS)
    for secret in SECRETS:
        if "base64" in form and len(secret) < 8:
            continue
        said = redactor.text(f"before: {FORMS[form](secret)} :after")
        assert not redactor.text.finds(said)
        assert secret not in readable(said)
        assert FORMS[form](secret) not in said
        assert "***" in said
        assert said == "***" or (said.startswith("before: ") and said.endswith(" :after")), said


def test_every_text_of_a_result_is_cleaned() -> None:
    """Fields x secrets x forms: no field of an answer or a failure, new ones included, repeats a secret."""
    redactor, cases = Redactor(SECRETS), 0
    for made, secret, form in product((_answer(), _failure()), SECRETS[:4], FORMS.values()):
        for field in fields(made):
            before = getattr(made, field.name)
            if not isinstance(before, str | tuple) or isinstance(before, Status | ErrorKind):
                continue
            planted = form(secret) if isinstance(before, str) else ("x", form(secret))
            result = redactor.result(type(made)(**{**_values(made), field.name: planted}))
            for value in _values(result).values():
                for text in value if isinstance(value, tuple) else (value,):
                    assert not isinstance(text, str) or not redactor.text.finds(text)
            cases += 1
    assert cases == 4 * len(FORMS) * 12


def test_a_secret_that_is_split_over_choices() -> None:
    """Pieces of a secret in several choices are masked all: together they are the secret."""
    made = Answer(status=Status.OK, caption=KEY[:9], captions=(KEY[:9], KEY[9:]), model="m")
    result = Redactor([KEY]).result(made)
    assert (result.caption, result.captions) == ("***", ("***", "***"))


def test_a_result_without_secrets_is_not_made_anew() -> None:
    """The usual answer is returned as it is: it costs a search, and no copy."""
    made = Answer(status=Status.OK, caption="Ein Hund läuft & bellt 🐕 100% \\o/", model="gpt-4o")
    assert Redactor(SECRETS).result(made) is made


@pytest.mark.parametrize("text", ["a\ud800b", "\udcff", "\ude00\ud83d"])
def test_lone_surrogates_become_one_character(text: str) -> None:
    """Text that no file can hold is made whole in every field; an emoji in two halves becomes one."""
    result = Redactor().result(_answer(model=text, captions=(text, "x"), request_id="\ud83d\ude00"))
    assert result.request_id == "😀"
    for value in (result.model, result.captions[0]):
        assert value is not None
        assert "\N{REPLACEMENT CHARACTER}" in value
        value.encode()


def test_short_secrets_damage_no_answer() -> None:
    """Three characters are no secret, seven are masked as a word alone, and placeholders of local servers never."""
    redactor = Redactor(["cat", "hunter2", "EMPTY", "ollama", "production", "password-99"])
    said = "a cat, hunter2, hunter22, EMPTY, ollama, in production, my-password-99x"
    assert redactor.text(said) == "a cat, ***, hunter22, EMPTY, ollama, in ***, my-***x"
    assert redactor.answer("a production line") == "a production line"


def test_which_headers_are_secret() -> None:
    """All but the known public ones, with and without the scheme; of a login both halves as well."""
    basic = base64.b64encode(b"me:hunter2").decode()
    found = header_secrets(
        {"X-Title": "mine", "X-Gate": "abc", "Cookie": "Bearer xyz", "Authorization": f"Basic {basic}"}
    )
    assert {"abc", "Bearer xyz", "xyz", f"Basic {basic}", basic, "me:hunter2", "hunter2"} <= set(found)
    assert "mine" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((name, True) for name in ("OPENAI_API_KEY", "KEY2", "my_key", "AZURE_KEY_2026", "X")),
        *((key, False) for key in ("sk-abc", "gsk_abc123DEF", "AIzaSyD-abc", "hf_abcDEF", "0f9e8d7c", "A" * 65)),
        *((key, False) for key in ("A1B2C3D4E5F60718", "r8_abc123", "", "a b", "pplx-1")),
    ],
)
def test_what_is_a_variable_and_what_a_key(text: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """A name that may be a key is not shown."""
    assert is_variable_name(text) is expected


def _answer(**changed: object) -> Answer:
    values: dict[str, object] = dict.fromkeys(
        ("caption", "model", "provider", "finish_reason", "request_id", "error_message"), "plain"
    )
    return Answer(status=Status.OK, **{**values, "captions": ("a", "b"), **changed})  # type: ignore[arg-type] # all are text


def _failure() -> Failure:
    return Failure(kind=ErrorKind.BAD_REQUEST, message="plain", request_id="plain", model=None)


def _values(made: Answer | Failure) -> dict[str, object]:
    return {field.name: getattr(made, field.name) for field in fields(made)}
