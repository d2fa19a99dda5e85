"""One export: what is asked for is checked, the rows are written, and what was left out is reported."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.engine.progress import counted
from pipeline.errors import InputError
from pipeline.export import formats
from pipeline.export.destination import check_dest
from pipeline.export.formats import Format
from pipeline.export.options import ExportChoices, check_options
from pipeline.export.report import ExportReport, Reason
from pipeline.export.rows import Rows
from pipeline.export.runs import newest_complete
from pipeline.files import disk_errors
from pipeline.store.reviews import REVIEWS_NAME


def export(out: Path, to: str, dest: Path | None = None, options: ExportChoices | None = None) -> ExportReport:
    """Write the rows of an output directory to `dest` in the format `to`. Without a `dest` texts go beside images.

    Raises InputError for an unknown format, column, run or condition, for names that would leave `dest`, and where
    there is no output directory; ResourceError where a part cannot be read or the disk does not allow it.
    """
    options = ExportChoices() if options is None else options
    known = formats.EXPORTERS
    if to not in known:
        raise InputError(f"{to!r} is no export format; known: {', '.join(known)}")
    found = known[to]
    check_options(options, to, found.takes)
    rows = Rows(out, options)
    if found.one_prompt and len(names := rows.prompt_names()) > 1:
        raise InputError(
            f"{out} has answers to several prompts ({', '.join(names)}), and an image has one text in the format {to}: "
            f"choose one with `prompt_name={names[0]}`"
        )
    with disk_errors(out if dest is None else dest):
        written = _written(rows, to, found, dest)
    left_out = {**rows.counts.left_out, **({Reason.MARKED_BAD: len(rows.marked_bad)} if rows.marked_bad else {})}
    return ExportReport(
        out=str(out),
        to=to,
        dest=None if dest is None else str(dest),
        rows=written,
        unchanged=rows.counts.unchanged,
        left_out={reason.value: count for reason, count in left_out.items()},
        examples={reason.value: ids for reason, ids in rows.counts.examples.items()},
        newest_run=newest_complete(out),
        notes=(*rows.counts.notes, *_about_reviews(rows)),
    )


def _about_reviews(rows: Rows) -> Iterator[str]:
    """Which texts are a person's, and which corrections are not applied."""
    folder = rows.out / REVIEWS_NAME
    if rows.corrected:
        corrected = counted(len(rows.corrected), "caption")
        yield f"{corrected} corrected by a person ({folder}); `reviews=ignore` exports the answers as they came"
    if rows.outdated:
        yield (
            f"{counted(len(rows.outdated), 'corrected caption')} in {folder} not applied: "
            "a run has replaced the answer since"
        )


def _written(rows: Rows, to: str, found: Format, dest: Path | None) -> int:
    if dest is None:
        if found.beside is None:
            raise InputError(f"the format {to} needs a DEST: {'a folder' if found.is_folder else 'a file'} to write")
        return found.beside(rows)
    images = rows.options.images or ("copy" if found.has_images else "none")
    if images != "none" and "images" in rows.schema.names:
        rows.counts.notes.append("of a record with several images the first one is exported")
    check_dest(rows, dest, is_folder=found.is_folder, has_images=images != "none")
    if not found.is_folder:
        dest.parent.mkdir(parents=True, exist_ok=True)
    return found.write(rows, dest)
