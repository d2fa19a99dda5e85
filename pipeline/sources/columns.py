"""Which columns of a manifest hold the image and the id."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError

IMAGE_COLUMNS = (
    "image",
    "image_path",
    "path",
    "file_name",
    "file",
    "filename",
    "filepath",
    "url",
    "image_url",
    "images",
    "document",
)
FILE_NAME_COLUMNS = ("file_name", "file_names")
"""Of the metadata of an image folder, also behind a prefix (`left_file_name`)."""
ID_COLUMN = "id"


@dataclass(frozen=True, slots=True)
class Columns:
    """The chosen columns, spelled as the manifest spells them; without an `id`, the image's name is the id."""

    image: str
    id: str | None


def choose_columns(names: Sequence[str], config: SourceConfig, name: str) -> Columns:
    """The columns that the configuration names, or else those that go by a usual name (in any case).

    Raises InputError that lists the columns of the manifest `name`.
    """
    by_lower = {column.lower(): column for column in reversed(names)}
    if config.image_column is not None:
        image = _named(names, config.image_column, name)
    else:
        usual = next((known for known in IMAGE_COLUMNS if known in by_lower), None)
        found = file_name_column(names) if usual is None else usual if usual in names else by_lower[usual]
        if found is None:
            raise InputError(_no_image_column(names, name))
        image = found
    if config.id_column is not None:
        wanted = _named(names, config.id_column, name)
        return Columns(image, None if wanted == image else wanted)
    return Columns(image, ID_COLUMN if ID_COLUMN in names else by_lower.get(ID_COLUMN))


def file_name_column(names: Sequence[str]) -> str | None:
    """The column of paths as the metadata of an image folder names it: `file_name`, `file_names`, `*_file_name`."""
    by_lower = {column.lower(): column for column in reversed(names)}
    plain = next((by_lower[known] for known in FILE_NAME_COLUMNS if known in by_lower), None)
    endings = tuple(f"_{known}" for known in FILE_NAME_COLUMNS)
    return plain or next((column for column in names if column.lower().endswith(endings)), None)


def _named(names: Sequence[str], wanted: str, name: str) -> str:
    if wanted in names:
        return wanted
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{name}: no column {wanted!r}; columns: {listed_columns(names)}{hint}")


def _no_image_column(names: Sequence[str], name: str) -> str:
    return (
        f"{name}: no column that holds images; columns: {listed_columns(names)}. "
        f"The names that count are {', '.join(IMAGE_COLUMNS)}; "
        "name another with `source.image_column=NAME`"
    )


def listed_columns(names: Sequence[str]) -> str:
    """The names for a message: the first of many, and none in full that fills the screen."""
    short = [column if len(column) <= 60 else column[:59] + "…" for column in names[:40]]  # noqa: PLR2004 - fits a screen
    return ", ".join(short) + (f" and {len(names) - 40} more" if len(names) > 40 else "")  # noqa: PLR2004 - as above
