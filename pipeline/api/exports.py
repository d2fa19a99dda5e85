"""`export`: the rows of an output directory, carried on into the formats of other tools."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from pipeline.api.paths import PathLike
from pipeline.api.places import named, readable
from pipeline.errors import InputError
from pipeline.export import exporting
from pipeline.export.options import ExportChoices, IfExists, ImagesAs, ReviewsAs
from pipeline.export.report import ExportReport


class ExportOptions(TypedDict, total=False):
    """The keywords of `export`: which rows, and how they are written."""

    prompt_name: str
    """Only answers to this prompt."""
    where: str
    """An SQL condition over the columns, as of `read`."""
    status: str | Sequence[str] | None
    """Rows that ended so; None: all. The default is `ok`."""
    exclude_flags: Sequence[str]
    """Rows with one of these flags are left out."""
    reviews: ReviewsAs
    """`apply` (corrections, and no answer that was marked bad), `good` (only good and corrected ones) or `ignore`."""
    since: str
    """Only rows of runs after this one."""
    columns: Sequence[str]
    """Only these columns, or these beside the text."""
    template: str
    """What a text is made of, as `"sks, {{ caption }}"`."""
    relative_to: str
    """What ids begin with that is no part of the names below `dest`."""
    images: ImagesAs
    if_exists: IfExists
    """What becomes of texts that are there, with other words."""
    caption_extension: str
    caption_column: str


def export(out: PathLike, to: str, dest: PathLike | None = None, **options: Unpack[ExportOptions]) -> ExportReport:
    """Writes the rows of `out` to `dest` in the format `to`; `txt` without a `dest` goes beside the images.

    docs/exports.md has the formats, and which options each takes.

    Raises:
        InputError: `out` holds no output of a run, an option is wrong, or a name would leave `dest`.
        ResourceError: a part is damaged, or the disk fails.
    """
    known = [one.name for one in fields(ExportChoices)]
    if unknown := [name for name in options if name not in known]:
        raise InputError(f"unknown option {unknown[0]!r} of an export; known: {', '.join(known)}")
    given: dict[str, Any] = {"status": "ok", **options}
    lists = {name: _several(given[name]) for name in _LISTS if given.get(name) is not None}
    choices = ExportChoices(**{**given, **lists})
    report = exporting.export(readable(out), to, None if dest is None else Path(dest), choices)
    return replace(report, out=named(out))


_LISTS: Final = ("status", "exclude_flags", "columns")


def _several(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
