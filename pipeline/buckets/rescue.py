"""Answers that a run had paid for and not uploaded when another run took over, from its state directory."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.buckets.journal import answer_of
from pipeline.buckets.restore import add_answers
from pipeline.buckets.state import Stamp, parts_in
from pipeline.store import parquet
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.opening import LEDGER_NAME
from pipeline.store.rows import encode_row
from pipeline.store.unsaved import UnsavedAnswer


def rescue(left: Path, uploaded: Mapping[str, Stamp], target: Path) -> int:
    """Lay the rows of `left` that may not be in the bucket beside the ledger of `target`. Returns their number.

    `uploaded` are the parts that went up as they are. The ledger takes in the rows that are newer than its own.
    """
    return add_answers(target, "left", _rows(left, uploaded), None)


def _rows(left: Path, uploaded: Mapping[str, Stamp]) -> Iterator[UnsavedAnswer]:
    for name, stamp in parts_in(left).items():
        if uploaded.get(name) != stamp:
            for table in parquet.tables_in(left / name, None):
                yield from (UnsavedAnswer(encode_row(row)) for row in table.to_pylist())
    if (left / LEDGER_NAME).is_file():
        with SqliteLedger(left / LEDGER_NAME) as ledger:
            yield from map(answer_of, ledger.unsealed())
