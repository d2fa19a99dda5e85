"""What a request says of the schema: a `response_format`, or instructions in the prompt; and the correction.

Sources: OpenAI, "Structured model outputs" (`json_schema`, and `json_object`, which needs the word JSON in a message).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from pipeline.labels.schema import LabelSchema
from pipeline.labels.shape import OpenSchemaError, shape_of
from pipeline.labels.strict import NotStrictError, strict_form


class LabelsMode(StrEnum):
    """How an endpoint is asked for labels, the most binding way first."""

    JSON_SCHEMA = "json_schema"
    """`response_format` holds the schema."""
    JSON_OBJECT = "json_object"
    """`response_format` asks for JSON, the prompt holds the schema."""
    PROMPT = "prompt"
    """Only the prompt asks."""

    @property
    def below(self) -> "LabelsMode | None":
        """What an endpoint is asked that rejects this one."""
        modes = list(LabelsMode)
        return next(iter(modes[modes.index(self) + 1 :]), None)

    @property
    def needs_instructions(self) -> bool:
        return self is not LabelsMode.JSON_SCHEMA


_OF_FACT: Mapping[str, LabelsMode] = {"json_object": LabelsMode.JSON_OBJECT, "ignored": LabelsMode.PROMPT}


def mode_of(setting: str, fact: str) -> LabelsMode:
    """The mode that `request.labels_mode` names; for `auto` the one that the catalogue's fact about a family allows.

    What the catalogue does not have is tried, and given up where the endpoint rejects it.
    """
    return _OF_FACT.get(fact, LabelsMode.JSON_SCHEMA) if setting == "auto" else LabelsMode(setting)


def lowest(modes: list[LabelsMode]) -> LabelsMode:
    """The least binding of several: what its endpoints need in the prompt, the others take too."""
    return max(modes, key=list(LabelsMode).index)


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer whose labels are invalid, as a request repeats it."""

    answer: str
    problems: tuple[str, ...]

    @property
    def words(self) -> str:
        """The message that follows the answer."""
        lines = "\n".join(f"- {problem}" for problem in self.problems)
        return (
            f"This answer is not valid for the JSON Schema:\n{lines}\n"
            "Answer again with the corrected JSON object only, without other text."
        )


@dataclass(frozen=True, slots=True)
class LabelsRequest:
    """What the requests of one run say of their schema."""

    schema: LabelSchema
    formats: Mapping[LabelsMode, dict[str, Any] | None]
    """`response_format` of each mode."""
    not_strict: str | None
    """Why the schema is not sent in strict mode."""

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, schema_text: str) -> "LabelsRequest":
        """Made once a schema: a prompt that is rendered for each record asks for it each time."""
        schema = LabelSchema.of(schema_text)
        sent: Mapping[str, Any] = schema.root
        not_strict = None
        try:
            sent = strict_form(schema)
        except NotStrictError as error:
            not_strict = str(error)
        described = {"name": schema.name, "schema": sent, "strict": not_strict is None}
        formats: dict[LabelsMode, dict[str, Any] | None] = {
            LabelsMode.JSON_SCHEMA: {"type": "json_schema", "json_schema": described},
            LabelsMode.JSON_OBJECT: {"type": "json_object"},
            LabelsMode.PROMPT: None,
        }
        return cls(schema, formats, not_strict)

    @property
    def instructions(self) -> str:
        """What the prompt says where `response_format` does not hold the schema."""
        return (
            "Answer with one JSON object only, without Markdown and without other text. "
            f"It has to be valid for this JSON Schema:\n{self.schema.text}"
        )

    def words(self, mode: LabelsMode) -> str:
        """The text that the schema adds to each prompt, as its tokens are estimated."""
        described = self.formats[LabelsMode.JSON_SCHEMA]
        if mode.needs_instructions or described is None:
            return self.instructions
        return json.dumps(described["json_schema"]["schema"], ensure_ascii=False, separators=(",", ":"))

    @property
    def longest_words(self) -> str:
        """The same in the mode that adds the most: an endpoint may turn out to need another mode."""
        return max(map(self.words, LabelsMode), key=len)

    def notes(self, mode: LabelsMode) -> list[str]:
        """What the user should know before anything is sent."""
        lines = []
        if mode is LabelsMode.JSON_SCHEMA and self.not_strict is not None:
            lines.append(
                "`request.labels`: this schema has no strict form, so that the endpoint may not enforce it "
                f"({self.not_strict}); each answer is validated here"
            )
        if mode is LabelsMode.JSON_OBJECT:
            lines.append("`request.labels`: this model takes no schema; the prompt holds it, and answers are JSON")
        if mode is LabelsMode.PROMPT:
            lines.append("`request.labels`: this endpoint takes no schema; only the prompt asks for it")
        try:
            shape_of(self.schema)
        except OpenSchemaError as error:
            lines.append(f"`request.labels`: the column `labels` is one JSON text, not typed fields ({error})")
        return lines
