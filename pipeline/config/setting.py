"""What a setting is to people: one sentence, and the keyword that names it in Python and on the command line.

Name, type, default and bounds of a setting are those of its pydantic field in `sections.py`. The configuration key,
the keyword of `pipeline.run`, the flag with its `--help` text, and the row of `docs/settings.md` follow from the two.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Setting:
    """Describes one field of a section. It stands in the field's `Annotated`."""

    help: str
    """One sentence, for `--help` and the documentation. It does not state the default."""
    _: KW_ONLY
    keyword: str | None = None
    """The keyword of `pipeline.run` and the other functions; None: the key in `overrides` and `--set` is the only name.

    The flag is the keyword with dashes. A setting that is on by default has the flag `--no-...`.
    """
    metavar: str | None = None
    """What `--help` shows as the value. None: the choices of a Literal, else the type."""
    default_help: str | None = None
    """The default as `--help` states it, where the value itself does not explain it."""
    off_help: str | None = None
    """The sentence of the flag that turns off what is on by default."""
    in_hash: bool = False
    """Whether another value asks the model something else, so that the rows of both are not comparable."""
    is_parameter: bool = False
    """Whether the request has it under its own name, where it is not at its default."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One setting as declared: its key, its description, and pydantic's field."""

    key: str
    """`section.name`, as in `overrides={"limits.rpm": 60}`."""
    setting: Setting
    field: FieldInfo

    @property
    def section(self) -> str:
        """The table of the configuration file that holds this setting."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """The name within the section."""
        return self.key.partition(".")[2]

    @property
    def default(self) -> Any:  # noqa: ANN401 - of any type
        """The value of a configuration that does not name this setting."""
        return self.field.get_default(call_default_factory=True)

    @property
    def fields(self) -> tuple[str, ...]:
        """The keys of a setting that is a table."""
        kind = self.field.annotation
        return tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else ()

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.field.annotation is bool

    @property
    def flag(self) -> str | None:
        """The option of the command line, where the setting has one of its own."""
        if self.setting.keyword is None:
            return None
        negation = "no-" if self.is_switch and self.default else ""
        return f"--{negation}{self.setting.keyword.replace('_', '-')}"


def declared_in(config: type[BaseModel]) -> Iterator[Declared]:
    """Every setting of a configuration whose fields are sections. Lists of sections repeat a section's settings."""
    for section, info in config.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                yield Declared(f"{section}.{name}", setting_of(field), field)


def setting_of(field: FieldInfo) -> Setting:
    """The description of a field. Raises LookupError for a field that has none."""
    found = [one for one in field.metadata if isinstance(one, Setting)]
    if not found:
        raise LookupError("a field of a section needs a Setting(...) in its Annotated")
    return found[0]
