"""`response_format` as OpenAI checks it, for models that take it in different ways; and a schema within a prompt."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.emulator.api_errors import ApiError, invalid_type, invalid_value, missing
from pipeline.labels.strict import strict_problem

_KINDS: Final = ("text", "json_object", "json_schema")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ANY_OBJECT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"description": {"type": "string"}, "orientation": {"enum": ["landscape", "portrait", "square"]}},
    "required": ["description", "orientation"],
}
"""What an answer in JSON is made after where no schema is in sight."""


def asked_schema(
    payload: Mapping[str, object], texts: Sequence[str], fact: str
) -> tuple[Mapping[str, Any] | None, str]:
    """The schema of the answer (None for prose), and its text where it stands beside the prompt.

    `fact` is the catalogue's: how the model's family takes schemas.
    Raises ApiError as OpenAI does: for a format that the model lacks, and for a schema that strict mode rejects.
    """
    wanted = payload.get("response_format")
    if wanted is None or fact == "ignored":
        return schema_in(texts), ""
    if not isinstance(wanted, dict):
        raise invalid_type("response_format", "an object", wanted)
    kind = wanted.get("type")
    if kind is None:
        raise missing("response_format.type")
    if kind not in _KINDS:
        raise invalid_value("response_format.type", kind, _KINDS)
    if kind == "text":
        return schema_in(texts), ""
    if kind == "json_schema":
        schema = _checked(wanted.get("json_schema"), fact)
        return schema, json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if not any("json" in text.lower() for text in texts):
        raise ApiError(
            400,
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )
    return schema_in(texts) or ANY_OBJECT, ""


def _checked(described: object, fact: str) -> Mapping[str, Any]:
    if fact == "json_object":
        raise ApiError(
            400,
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            param="response_format",
        )
    if described is None:
        raise missing("response_format.json_schema")
    if not isinstance(described, dict):
        raise invalid_type("response_format.json_schema", "an object", described)
    name, schema = described.get("name"), described.get("schema", {"type": "object"})
    if name is None:
        raise missing("response_format.json_schema.name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ApiError(
            400,
            f"Invalid 'response_format.json_schema.name': '{str(name)[:70]}' does not match '^[a-zA-Z0-9_-]+$'.",
            code="invalid_value",
            param="response_format.json_schema.name",
        )
    if not isinstance(schema, dict):
        raise invalid_type("response_format.json_schema.schema", "an object", schema)
    problem = strict_problem(schema) if described.get("strict") is True else None
    if problem is not None:
        raise ApiError(400, f"Invalid schema for response_format '{name}': {problem}", param="response_format")
    return schema


def schema_in(texts: Sequence[str]) -> Mapping[str, Any] | None:
    """The JSON Schema that a prompt holds, as a model would read it there."""
    for text in texts:
        at = text.find('{"')
        if at < 0 or "JSON" not in text[:at]:
            continue
        try:
            found, _ = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and {"properties", "$ref", "type"} & found.keys():
            return found
    return None
