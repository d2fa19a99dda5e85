"""What is said of a source that holds no images: what it holds instead."""

from collections.abc import Sequence

from pipeline.formatting import passed_words
from pipeline.sources.braces import RECORD_SUFFIXES, files_example
from pipeline.sources.naming import MEDIA_SUFFIXES, shown
from pipeline.sources.passed import PassedOver, tables_hint
from pipeline.sources.walk import Walk


def no_images(name: str, folder: str | None, walk: Walk, extensions: Sequence[str] | None) -> str:
    """Of a walk through `folder`, or without one of a glob."""
    found = "no image matches" if folder is None else "no images here"
    by_kind = walk.passed.by_kind
    if not walk.files_seen and folder is not None:
        return f"{shown(name)}: {found}: the folder holds no files"
    tables = tables_hint(by_kind)
    tables += files_example(folder, RECORD_SUFFIXES) if tables and folder is not None else ""
    others = f"{walk.files_seen:,} other file{' was' if walk.files_seen == 1 else 's were'} seen"
    kinds = f" ({passed_words(by_kind)})" if by_kind else ""
    return (
        f"{shown(name)}: {found}; {others}{kinds}. "
        f"Files count that end in {' '.join(extensions or MEDIA_SUFFIXES)}, in any case, and are not hidden"
        f"{'' if extensions else '; others by their first bytes'}{tables}"
    )


def no_images_in_shards(name: str, shards: int, skipped: int, passed: PassedOver) -> str:
    held = passed_words(passed.by_kind) or ("nothing else" if skipped else "no files")
    also = f"; {skipped:,} damaged records or shards were skipped" if skipped else ""
    where = "it" if shards == 1 else "its shards"
    return f"{shown(name)}: no images in {where} ({held}){also}; `source.extensions` names other formats"
