"""Recovery: finishes what a crash interrupted, when an output directory is opened."""

from collections.abc import Callable
from pathlib import Path

import orjson

from pipeline.errors import ResourceError
from pipeline.store import outdir, parquet, unsaved
from pipeline.store.intake import TakenIn, take_in
from pipeline.store.layout import DATA_NAME, check_rows, settle
from pipeline.store.ledger.protocol import Ledger
from pipeline.store.rows import empty
from pipeline.store.sealing import Sealer


def repair(out: Path, ledger: Ledger, sealer: Sealer, step: Callable[[str], None]) -> TakenIn:
    """Make ledger and parts agree. Returns what was taken in from files of unsaved answers.

    Finishes an exchange of directories, the first part, half-written files, parts that were renamed and not marked.
    Raises ResourceError where a part is gone or cannot be read, or has other rows than were written.
    """
    data = out / DATA_NAME
    settle(out, ledger, step)
    data.mkdir(exist_ok=True)
    parquet.remove_unfinished(data)
    outdir.remove_unfinished(out)
    parts = _check_parts(out, ledger)
    if not parquet.part_numbers(data):
        parquet.write_part(data, 0, empty(sealer.columns), step)
    if not parts:
        ledger.set_meta({"parts": b"1"})
        step("first-part-marked")
    parquet.check_columns(data, sealer.columns)
    sealer.seal()
    check_rows(out, ledger)
    sealer.find_tail()
    if not unsaved.paths(out):
        return TakenIn()
    return take_in(out, ledger, sealer)


def _check_parts(out: Path, ledger: Ledger) -> int:
    """The number of parts that the ledger has marked. Raises ResourceError where one of them is gone."""
    data = out / DATA_NAME
    parts = int(ledger.meta("parts") or b"0")
    found = set(parquet.part_numbers(data)).union(orjson.loads(ledger.meta("lost_parts") or b"[]"))
    if lost := [number for number in range(parts) if number not in found]:
        raise ResourceError(
            f"{data / parquet.part_name(lost[0])} is gone, and the answers in it ({len(lost)} of "
            f"{parts} parts). Put it back, or `vision-batch rebuild {out}` to ask for them again"
        )
    return parts
