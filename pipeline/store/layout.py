"""Which set of parts `data/` holds, and how one set takes the place of another.

A set of parts has a name, in the dotted file `.layout` beside them (none: the parts as runs made them). The ledger
stores the name of the set, and the part of each record. Where the two names differ, sets were exchanged and the
ledger was not updated yet: it is updated from the parts themselves. So a crash leaves nothing to guess.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson

from pipeline import files
from pipeline.errors import ResourceError
from pipeline.store import outdir, parquet
from pipeline.store.ledger.protocol import Ledger
from pipeline.store.ledger.schema import footer_name

DATA_NAME = "data"
NEW_NAME = ".data-new"
OLD_NAME = ".data-old"
LAYOUT_NAME = ".layout"
SHOWN = 3
"""The number of damages that an error names; `status` names all."""
UNREADABLE = "cannot be read"


def name_set(folder: Path) -> None:
    """Give the parts in `folder` a name that no other set has."""
    outdir.write_atomic(folder / LAYOUT_NAME, secrets.token_hex(8).encode())
    parquet.sync_folder(folder)


def set_name(folder: Path) -> bytes:
    """The name of the set in `folder`; empty where it has none."""
    try:
        return files.read(folder / LAYOUT_NAME)
    except FileNotFoundError:
        return b""


def put_in_place(out: Path, exchange: Callable[[Path, Path], bool], step: Callable[[str], None]) -> None:
    """Make `.data-new` the `data/` of OUT. What was there lies beside it until `settle`."""
    data, new = out / DATA_NAME, out / NEW_NAME
    if not exchange(data, new):
        data.rename(out / OLD_NAME)
        step("set-aside")
        new.rename(data)
    step("swapped")
    parquet.sync_folder(out)
    step("swap-synced")


def settle(out: Path, ledger: Ledger, step: Callable[[str], None]) -> None:
    """Finish or undo what `put_in_place` began: ledger and parts agree, and nothing lies beside them."""
    data = out / DATA_NAME
    put_back(out)
    if not data.is_dir() or not (numbers := parquet.part_numbers(data)):
        return
    name = set_name(data)
    if name != (ledger.meta("layout") or b""):
        if ledger.next_part() is None:  # else an unsealed record may have no row yet; `put_in_place` finds none
            check_sum(out, ledger)
        gaps = sorted(set(range(numbers[-1])) - set(numbers))
        meta = {"layout": name, "parts": str(numbers[-1] + 1).encode(), "lost_parts": orjson.dumps(gaps)}
        ledger.forget_meta(ledger.meta_names("footer "))
        ledger.relocate(parquet.places(data), meta | footers(data))
        step("relocated")
    clear(out, step)


def footers(data: Path) -> dict[str, bytes]:
    """The copies of all footers, by the names under which the ledger keeps them."""
    return {footer_name(number): parquet.footer(data, number) for number in parquet.part_numbers(data)}


def check_sum(out: Path, ledger: Ledger) -> None:
    """Raise ResourceError where the parts hold more or fewer rows than the ledger has records."""
    rows, records = sum(parquet.rows_by_part(out / DATA_NAME).values()), sum(ledger.states().values())
    if rows != records:
        raise ResourceError(
            f"{out / DATA_NAME}: the parts hold {rows:,} rows, and the ledger has {records:,} records. Put back "
            f"what is missing, or let `vision-batch rebuild {out}` make the ledger agree; nothing was changed"
        )


def check_rows(out: Path, ledger: Ledger) -> None:
    """Raise ResourceError where `data/` is not as the ledger sealed it; see `damages`."""
    if found := damages(out, ledger):
        more = f" (and {len(found) - SHOWN:,} more)" if len(found) > SHOWN else ""
        raise ResourceError(
            f"{out / DATA_NAME} is not as it was written: {'; '.join(found[:SHOWN])}{more}. {way_out(out, found)}: "
            "records that have no row are then asked again. Nothing was sent or changed"
        )


def way_out(out: Path, found: Sequence[str]) -> str:
    """What to do about `damages`."""
    drop = " --drop-unreadable" if any(UNREADABLE in line for line in found) else ""
    return (
        "Put back what is missing and move away what was added, "
        f"or let `vision-batch rebuild {out}{drop}` make the ledger agree with the parts"
    )


def damages(out: Path, ledger: Ledger) -> list[str]:
    """What in `data/` is not as the ledger sealed it, by the footers of the parts: one line each.

    A part with unsealed rows is passed over: a crash may have come between its renaming and its mark.
    """
    data = out / DATA_NAME
    if not data.is_dir() or set_name(data) != (ledger.meta("layout") or b""):
        return []  # the next start puts that right
    unsealed, recorded = ledger.unsealed_parts(), ledger.part_rows()
    lost = orjson.loads(ledger.meta("lost_parts") or b"[]")
    known = set(range(int(ledger.meta("parts") or b"0"))).difference(lost)
    present = set(parquet.part_numbers(data))
    found = [f"{parquet.part_name(number)} is gone" for number in sorted(known - present)]
    total = 0
    for number in sorted(present - unsealed):
        try:
            rows = parquet.count_rows(data, number)
        except ResourceError:
            found.append(f"{parquet.part_name(number)} {UNREADABLE}")
            continue
        total += rows
        if number not in known and rows:  # without rows: the first one, of a run that was killed before its mark
            found.append(f"{parquet.part_name(number)} ({rows:,} rows) was not written by a run here")
        elif number in known and rows != recorded.get(number, 0):
            found.append(f"{parquet.part_name(number)} has {rows:,} rows, and {recorded.get(number, 0):,} were written")
    records = sum(ledger.states().values())
    if not found and not unsealed and total != records:
        found.append(f"the parts hold {total:,} rows, and the ledger has {records:,} records")
    return found


def verify(out: Path, ledger: Ledger | None) -> Iterator[str]:
    """Read every part to its end: what is wrong with each, by its checksums and, with the ledger, by its keys."""
    data = out / DATA_NAME
    for number in parquet.part_numbers(data) if data.is_dir() else ():
        strange = 0
        try:
            for keys in parquet.keys_of(data, number):
                parts = {} if ledger is None else ledger.parts_of(keys)
                strange += 0 if ledger is None else sum(parts.get(key) != number for key in keys)
        except ResourceError as error:
            yield str(error)
        if strange:
            yield f"{parquet.part_name(number)} has {strange:,} rows that the ledger does not have in this part"


def put_back(out: Path) -> None:
    """Between the two renames, where sets cannot be exchanged, there is no `data/`: the old one is it again."""
    data, old = out / DATA_NAME, out / OLD_NAME
    if old.is_dir() and not old.is_symlink() and not os.path.lexists(data):
        old.rename(data)


def clear(out: Path, step: Callable[[str], None] = lambda _: None) -> None:
    """Delete the set that is not in `data/`; files of others among its parts move over."""
    data = out / DATA_NAME
    for folder in (out / NEW_NAME, out / OLD_NAME):
        if folder.is_symlink() or folder.is_file():  # not ours: its target stays
            folder.unlink()
        if not folder.is_dir():
            continue
        for entry in sorted(folder.iterdir()):
            if parquet.is_ours(entry.name) or entry.name == LAYOUT_NAME:
                entry.unlink()
                step("part-removed")
            elif not os.path.lexists(data / entry.name):
                entry.rename(data / entry.name)
        shutil.rmtree(folder)
        step("old-removed")
