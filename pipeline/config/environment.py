"""Variables of the process and of the `.env` file in the working directory, each with its place.

The user sets the variables of the process. A `.env` file may have come with foreign files: its values are used, and an
address that it names gets no key from elsewhere (`keys.find_key`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from pipeline.errors import InputError

DOTENV: Final = ".env"
PROCESS: Final = "the environment"


@dataclass(frozen=True, slots=True)
class Variable:
    """A value and its place: `DOTENV` or `PROCESS`."""

    value: str = field(repr=False)
    place: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Both places. A variable of the process wins over one of the file, also where it is empty."""

    process: Mapping[str, str]
    dotenv: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Variable | None:
        """The variable, without blanks around it; None where it is not set, or empty."""
        if name in self.process:
            value = self.process[name].strip()
            return Variable(value, PROCESS) if value else None
        return self.find_in_dotenv(name)

    def find_in_dotenv(self, name: str) -> Variable | None:
        """The variable of the file, whatever the process has.

        Raises InputError where it refers to another variable: it could be one of the process.
        """
        value = self.dotenv.get(name, "").strip()
        if "${" in value:
            raise InputError(f"{DOTENV}: {name} refers to another variable (${{...}}): write its value out")
        return Variable(value, DOTENV) if value else None


def read_environment() -> Environment:
    """The process's variables, and those of `.env`. Raises InputError where that file cannot be read."""
    return Environment(dict(os.environ), _read_dotenv(Path(DOTENV)))


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        if not path.is_file():
            return {}
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}
