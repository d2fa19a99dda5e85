"""Which set of parts `data/` holds, and how one set takes the place of another.

A set of parts has a name, in the dotted file `.layout` beside them (none: the parts as runs made them). The ledger
says which part each record is in, and of which set. Where the two names differ, sets were exchanged and the
ledger was not told yet: it is told from the parts themselves. So a crash leaves nothing to guess.
"""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson

from pipeline import files
from pipeline.edges import outdir, parquet
from pipeline.edges.ledger import Ledger, footer_name
from pipeline.errors import ResourceError

DATA_NAME = "data"
NEW_NAME = ".data-new"
OLD_NAME = ".data-old"
LAYOUT_NAME = ".layout"


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
    """Finish what `put_in_place` began, or take it back: ledger and parts agree, and nothing lies beside them."""
    data = out / DATA_NAME
    put_back(out)
    if not data.is_dir() or not (numbers := parquet.part_numbers(data)):
        return
    name = set_name(data)
    if name != (ledger.meta("layout") or b""):
        if ledger.next_part() is None:  # else what waits may have no row yet; `put_in_place` finds nothing waiting
            check_rows(out, ledger)
        gaps = sorted(set(range(numbers[-1])) - set(numbers))
        meta = {"layout": name, "parts": str(numbers[-1] + 1).encode(), "lost_parts": orjson.dumps(gaps)}
        ledger.forget_meta(ledger.meta_names("footer "))
        ledger.relocate(parquet.places(data), meta | footers(data))
        step("relocated")
    clear(out, step)


def footers(data: Path) -> dict[str, bytes]:
    """The copies of all footers, by the names under which the ledger keeps them."""
    return {footer_name(number): parquet.footer(data, number) for number in parquet.part_numbers(data)}


def check_rows(out: Path, ledger: Ledger) -> None:
    """Raise ResourceError where the parts hold more or fewer rows than the ledger knows of records."""
    rows, records = sum(parquet.rows_by_part(out / DATA_NAME).values()), sum(ledger.states().values())
    if rows != records:
        raise ResourceError(
            f"{out / DATA_NAME}: the parts hold {rows:,} rows, and the ledger knows of {records:,} records. Put back "
            f"what is missing, or let `vision-batch rebuild {out}` make the ledger agree; nothing was changed"
        )


def put_back(out: Path) -> None:
    """Between the two renames, where sets cannot be exchanged, there is no `data/`: the old one is it again."""
    data, old = out / DATA_NAME, out / OLD_NAME
    if old.is_dir() and not old.is_symlink() and not os.path.lexists(data):
        old.rename(data)


def clear(out: Path, step: Callable[[str], None] = lambda _: None) -> None:
    """Delete the set that is not the one in `data/`; what somebody else has put among its parts moves over."""
    data = out / DATA_NAME
    for folder in (out / NEW_NAME, out / OLD_NAME):
        if folder.is_symlink() or folder.is_file():  # none of ours: what it leads to is left alone
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
