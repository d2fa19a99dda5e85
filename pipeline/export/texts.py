"""Texts beside images, or in a folder with the same tree: one line each, never empty, as trainers read them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from pipeline import files
from pipeline.errors import InputError
from pipeline.export.captions import Captions, one_line
from pipeline.export.merging import Write, merged
from pipeline.export.names import (
    Named,
    UnsafeNameError,
    below_dest,
    check_names,
    suffix_of,
    unsafe_words,
    without_suffix,
)
from pipeline.export.options import IfExists
from pipeline.export.placing import Placer, reason_of
from pipeline.export.record import TextRecord
from pipeline.export.report import Counts, Reason
from pipeline.export.rows import Rows
from pipeline.export.tree import Tree, folds_names
from pipeline.originals import Originals

_COLUMNS: Final = ("id", "prompt_name", "image", "sha256", "run_id")
_SHOWN: Final = 5


class Text(NamedTuple):
    """One text and where it belongs."""

    name: str
    """Below DEST; or the whole path."""
    text: str
    row: dict[str, object]

    @property
    def id(self) -> str:
        return str(self.row["id"])


class Place(Protocol):
    """Where the texts of an export belong."""

    def name(self, row: dict[str, object]) -> str | Reason:
        """The name of a row's file, or why there is none. Raises UnsafeNameError."""

    def path(self, name: str) -> Path:
        """Where the file is; its folder is there."""


class BesideImages:
    """Each text is in the folder of its image."""

    def __init__(self, rows: Rows) -> None:
        self._originals = Originals(rows.out)
        self._extension = rows.options.extension

    def name(self, row: dict[str, object]) -> str | Reason:
        found = self._originals.locate(row)
        if found.path is None:
            return reason_of(found.state) or Reason.NO_FILE
        return os.path.splitext(found.path)[0] + self._extension  # noqa: PTH122 - it may be no UTF-8

    def path(self, name: str) -> Path:
        return Path(name)


class InTree:
    """Each text has the place below DEST that its image has below the source."""

    def __init__(self, rows: Rows, tree: Tree) -> None:
        self._tree, self._options = tree, rows.options
        self._extension = rows.options.extension

    def name(self, row: dict[str, object]) -> str | Reason:
        name = below_dest(str(row["id"]), self._options.relative_to)
        return without_suffix(name, suffix_of(str(row["image"] or ""))) + self._extension

    def path(self, name: str) -> Path:
        return self._tree.path(name)


def export_texts(rows: Rows, dest: Path) -> int:
    """Texts below DEST, with the images where they are wanted there."""
    tree = Tree(dest)
    placer = None if rows.options.images in {None, "none"} else Placer(rows, tree)
    return _Texts(rows, InTree(rows, tree), folds=folds_names(dest), placer=placer).write()


def export_texts_beside(rows: Rows) -> int:
    """Texts in the folders of the images."""
    if rows.options.images not in {None, "none"}:
        raise InputError("`images=`: the images are there already; name a DEST to have them with their texts elsewhere")
    if rows.options.relative_to is not None:
        raise InputError("`relative_to=` is for names below a DEST; name one")
    return _Texts(rows, BesideImages(rows), folds=False, placer=None).write()


class _Texts:
    """One export: names are checked before anything is written."""

    def __init__(self, rows: Rows, place: Place, *, folds: bool, placer: Placer | None) -> None:
        self._rows, self._place, self._placer, self._folds = rows, place, placer, folds
        self._captions = Captions(rows.options.template, rows.schema)
        self._mode: IfExists = rows.options.if_exists or "error"
        self._counts = Counts()

    def write(self) -> int:
        """Returns the number of texts that are as they should be."""
        check_names(self._named, folds=self._folds)
        written = 0
        with TextRecord(self._rows.out, is_needed=self._mode in {"append", "prepend"}) as record:
            if self._mode == "error":
                self._check_free(record)
            self._counts = self._rows.counts
            for text in self._texts():
                written += self._write(text, record)
        return written

    def _named(self) -> Iterator[Named]:
        return ((text.name, text.id) for text in self._texts())

    def _texts(self) -> Iterator[Text]:
        """Those that are to be written. Raises InputError for a name that would leave DEST."""
        counts = self._counts
        for row in self._rows.dicts([*_COLUMNS, *self._captions.columns]):
            text = one_line(self._captions(row))
            if not text:
                counts.leave_out(Reason.NO_TEXT, row["id"])
                continue
            try:
                name = self._place.name(row)
            except UnsafeNameError as error:
                raise InputError(unsafe_words(row["id"], error)) from None
            if isinstance(name, Reason):
                counts.leave_out(name, row["id"])
            else:
                yield Text(name, text, row)

    def _check_free(self, record: TextRecord) -> None:
        """Raises InputError where texts are there that no export of these rows has written."""
        taken, examples = 0, list[str]()
        for text in self._texts():
            path = self._place.path(text.name)
            there = _read(path)
            if there is None or (
                isinstance(there, str) and self._merged(path, there, text, record) is not Reason.EXISTS
            ):
                continue
            taken += 1
            examples += [f"  {path}"] if len(examples) < _SHOWN else []
        if taken:
            raise InputError(
                f"{taken:,} of the texts are there already, with other words; nothing was written:",
                *examples,
                "Choose what becomes of them: `if_exists=skip`, `if_exists=overwrite`, `if_exists=append` or "
                "`if_exists=prepend`",
            )

    def _merged(self, path: Path, there: str | None, text: Text, record: TextRecord) -> Write | Reason | str:
        needs_record = there is not None and self._mode != "overwrite"
        added = record.text(path, str(text.row["prompt_name"])) if needs_record else None
        return merged(self._mode, there, text.text, added)

    def _write(self, text: Text, record: TextRecord) -> bool:
        path = self._place.path(text.name)
        there = _read(path)
        if there is _NOT_UTF8 and self._mode != "overwrite":
            self._counts.leave_out(Reason.NOT_UTF8, text.id)
            return False
        what = self._merged(path, there if isinstance(there, str) else None, text, record)
        if isinstance(what, Reason):
            self._counts.leave_out(what, text.id)
            return False
        if self._placer is not None and isinstance(placed := self._placer.place(text.row), Reason):
            self._counts.leave_out(placed, text.id)
            return False
        if isinstance(what, Write):
            files.write_atomic(path, what.text.encode(), durable=False)
        else:
            self._counts.unchanged += 1
        record.note(path, str(text.row["prompt_name"]), text.text)
        return True


_NOT_UTF8: Final = b""
"""Stands for what a file holds that is no text."""


def _read(path: Path) -> str | bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return _NOT_UTF8
