"""The lists of tables that prompts consist of: `[[prompts]]` and `[[request.messages]]`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from pipeline.config.types import labels_schema


class Table(BaseModel):
    """An entry of a list of tables."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptConfig(Table):
    """One of several prompts of a record: `name`, `text`, and `labels`, the schema of its answers, where it has one."""

    name: Annotated[str, Field(min_length=1)]
    """The column `prompt_name`."""
    text: Annotated[str, Field(min_length=1)]
    labels: Annotated[str | None, BeforeValidator(labels_schema)] = None
    """The schema of its answers, as `request.labels` holds one."""


class MessageConfig(Table):
    """One message of the conversation before the prompt: `[[request.messages]]`."""

    role: Literal["system", "developer", "user", "assistant"]
    text: Annotated[str, Field(min_length=1)]
    images: tuple[Path, ...] = ()
    """Local files, which every request sends."""

    def named(self) -> dict[str, Any]:
        """What the hash holds of it: files by their names, so that a folder may be moved."""
        return {"role": self.role, "text": self.text, "images": [path.name for path in self.images]}

    @model_serializer(mode="wrap")
    def _without_images(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what is set: `images` of a message without any is left out."""
        found: dict[str, Any] = serialise(self)
        return found if self.images else {name: value for name, value in found.items() if name != "images"}
