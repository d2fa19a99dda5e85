"""What an export is asked for, beside its format."""

from dataclasses import dataclass, fields
from typing import Literal

from pipeline.errors import InputError
from pipeline.records import Status

IfExists = Literal["error", "skip", "overwrite", "append", "prepend"]
ImagesAs = Literal["copy", "hardlink", "symlink", "none"]
ReviewsAs = Literal["apply", "ignore", "good"]
CAPTION_EXTENSION, CAPTION_COLUMN = ".txt", "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportChoices:
    """Which rows, and how they are written. None stands for the format's own choice."""

    prompt_name: str | None = None
    """Only rows of this prompt."""
    where: str | None = None
    """An expression over the columns, as of `pipeline.read`."""
    status: tuple[str, ...] | None = ("ok",)
    """Rows that ended so; None: all."""
    exclude_flags: tuple[str, ...] = ()
    """Rows with one of these flags are left out."""
    reviews: ReviewsAs = "apply"
    """`apply`: corrections replace captions, and answers that were marked bad are left out; `good`: only good ones."""
    since: str | None = None
    """Rows of runs after this one."""
    columns: tuple[str, ...] | None = None
    template: str | None = None
    relative_to: str | None = None
    """What ids begin with that is no part of the names below DEST."""
    images: ImagesAs | None = None
    if_exists: IfExists | None = None
    caption_extension: str | None = None
    caption_column: str | None = None

    @property
    def extension(self) -> str:
        """Of texts beside images, with its dot. Raises InputError."""
        wanted = CAPTION_EXTENSION if self.caption_extension is None else self.caption_extension
        extension = wanted if wanted.startswith(".") else f".{wanted}"
        if extension == "." or any(mark in extension for mark in "/\\\0") or not extension.isprintable():
            raise InputError(f"`caption_extension=`: {wanted!r} is no suffix of a file; write it as .txt")
        return extension

    @property
    def text_column(self) -> str:
        """The column of texts. Raises InputError."""
        name = CAPTION_COLUMN if self.caption_column is None else self.caption_column
        if not name.strip() or not name.isprintable() or name in TAKEN:
            taken = f"; {', '.join(TAKEN)} are taken" if name in TAKEN else ""
            raise InputError(f"`caption_column=`: {name!r} is no name for the column of texts{taken}")
        return name


TAKEN = ("image", "id", "key", "file_name")
"""Columns of datasets with images that are not the text's."""
SPECIAL = ("columns", "template", "relative_to", "images", "if_exists", "caption_extension", "caption_column")
"""Options that some formats take and others do not."""


def check_options(options: ExportChoices, to: str, takes: frozenset[str]) -> None:
    """Raises InputError for an option that the format does not take, and for an unknown status."""
    given = [
        field.name for field in fields(options) if field.name in SPECIAL and getattr(options, field.name) is not None
    ]
    if odd := [name for name in given if name not in takes]:
        taken = ", ".join(f"`{name}=`" for name in SPECIAL if name in takes) or "none of its own"
        raise InputError(f"the format {to} has no option `{odd[0]}=`; it takes {taken}")
    known = {status.value for status in Status}
    if unknown := [name for name in options.status or () if name not in known]:
        raise InputError(f"`status=`: {unknown[0]!r} is no status; known: {', '.join(known)}")
    if options.status is not None and not options.status:
        raise InputError("`status=` names none; leave it out for rows that are ok")
