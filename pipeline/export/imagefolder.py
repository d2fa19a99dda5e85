"""An image folder of Hugging Face: images, and `metadata.jsonl` with `file_name` and a text for each."""

from pathlib import Path
from typing import Final

import orjson

from pipeline import files
from pipeline.export.destination import take_folder
from pipeline.export.names import MARKER
from pipeline.export.pairs import Pairs
from pipeline.export.placing import Placer
from pipeline.export.report import Reason
from pipeline.export.rows import Rows
from pipeline.export.tree import Tree, folds_names

METADATA: Final = "metadata.jsonl"


def export_imagefolder(rows: Rows, dest: Path) -> int:
    """Write `metadata.jsonl` last: until then `datasets` finds no text of an export that was interrupted."""
    pairs, column = Pairs(rows), rows.options.text_column
    if rows.options.images != "none":
        take_folder(dest, "imagefolder", rows.out)
    tree = Tree(dest)
    pairs.check_names(reserved=(METADATA, MARKER), folds=folds_names(dest))
    placer, written = Placer(rows, tree), 0
    with files.replaced(dest / METADATA) as file:
        for pair in pairs.each(rows.counts):
            name = placer.place(pair.row)
            if isinstance(name, Reason):
                rows.counts.leave_out(name, pair.row["id"])
                continue
            line = {"file_name": name, column: pair.text, **pair.others}
            file.write(orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE))
            written += 1
    return written
