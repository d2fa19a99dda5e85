"""Answers in JSON: an instance of a schema, made from the image and nothing else; and wrong ones."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from pipeline.emulator.faults import Fault
from pipeline.labels.schema import resolved

_DEEPEST: Final = 8
"""Levels after which optional properties, null and empty lists are chosen: a recursive schema comes to its end."""
_TEXTS: Final = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1M",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}


class _Maker:
    """Makes one instance; equal seeds and schemas give equal instances."""

    def __init__(self, root: Mapping[str, Any], seed: bytes, text: str) -> None:
        self._root, self._seed, self._text = root, seed, text

    def of(self, schema: object, path: str = "", depth: int = 0) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(schema, dict):
            return self._text
        try:
            schema = resolved(schema, self._root)
        except LookupError:
            return None
        options = schema.get("anyOf") or schema.get("oneOf")
        if "const" in schema or schema.get("enum"):
            return self._chosen(schema.get("enum") or [schema["const"]], path)
        if options:
            return self.of(self._option(options, path, depth), path, depth)
        return self._typed(schema, path, depth)

    def _typed(self, schema: Mapping[str, Any], path: str, depth: int) -> Any:  # noqa: ANN401 - JSON
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = kinds if isinstance(kinds, str) else self._option(list(kinds), path, depth)
        match kind:
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "integer" | "number":
                return self._number(schema, path, is_whole=kind == "integer")
            case "boolean":
                return self._draw(path) < 0.5  # noqa: PLR2004 - even chances
        return None if kind == "null" else self._string(schema)

    def _draw(self, path: str) -> float:
        digest = blake2b(self._seed + path.encode("utf-8", "replace"), digest_size=7).digest()
        return int.from_bytes(digest) / 2**56

    def _chosen(self, options: list[Any], path: str) -> Any:  # noqa: ANN401 - JSON
        return options[int(self._draw(path) * len(options))]

    def _option(self, options: list[Any], path: str, depth: int) -> Any:  # noqa: ANN401 - JSON
        """One of a union; null where the schema would otherwise not end."""
        nulls = [one for one in options if one == "null" or (isinstance(one, dict) and one.get("type") == "null")]
        if depth >= _DEEPEST and nulls:
            return nulls[0]
        return self._chosen(options, f"{path}?")

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        required = schema.get("required", [])
        return {
            name: self.of(one, f"{path}/{name}", depth + 1)
            for name, one in schema.get("properties", {}).items()
            if name in required or (depth < _DEEPEST and self._draw(f"{path}/{name}?") < 0.75)  # noqa: PLR2004 - mostly
        }

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", least + 3), least + 3)
        number = least if depth >= _DEEPEST else least + int(self._draw(f"{path}#") * (most - least + 1))
        items = schema.get("items", {"type": "string"})
        return [self.of(items, f"{path}[{at}]", depth + 1) for at in range(number)]

    def _number(self, schema: Mapping[str, Any], path: str, *, is_whole: bool) -> int | float:
        step = schema.get("multipleOf") or (1 if is_whole else 0.01)
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100 * step))
        first = -(-low // step) + ("exclusiveMinimum" in schema and low % step == 0)
        last = high // step - ("exclusiveMaximum" in schema and high % step == 0)
        number = (first + int(self._draw(path) * (max(last, first) - first + 1))) * step
        return int(number) if is_whole else min(max(round(number, 6), low), high)

    def _string(self, schema: Mapping[str, Any]) -> str:
        text = str(_TEXTS.get(schema.get("format", ""), self._text))
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        return text.ljust(least, ".")[:most]


def instance(schema: Mapping[str, Any], seed: bytes, text: str) -> dict[str, Any]:
    """The answer to one request: `seed` stands for its image, `text` describes it."""
    made = _Maker(schema, seed, text).of(schema)
    return made if isinstance(made, dict) else {}


def in_words(value: dict[str, Any], schema: Mapping[str, Any], fault: Fault | None) -> str:
    """The text of an answer in JSON, wrong in the way of the fault."""
    text = json.dumps(_spoilt(value, schema, fault), ensure_ascii=False)
    match fault:
        case Fault.LABELS_FENCED:
            return f"```json\n{text}\n```"
        case Fault.LABELS_PROSE:
            return f"Here is the JSON that you asked for:\n{text}\nLet me know if you need anything else!"
        case Fault.LABELS_CUT:
            return text[: max(2, len(text) * 2 // 3)]
    return text


def _spoilt(value: dict[str, Any], schema: Mapping[str, Any], fault: Fault | None) -> dict[str, Any]:
    properties = resolved(schema, schema).get("properties", {})
    if fault is Fault.LABELS_MISSING:
        return {name: one for name, one in value.items() if name != next(iter(value), None)}
    if fault is Fault.LABELS_TYPE:
        return {name: {"value": one} if at == 0 else one for at, (name, one) in enumerate(value.items())}
    if fault is Fault.LABELS_ENUM:
        enums = [name for name in value if isinstance(properties.get(name), dict) and "enum" in properties[name]]
        return {name: "none of these" if name in enums else one for name, one in value.items()}
    return value
