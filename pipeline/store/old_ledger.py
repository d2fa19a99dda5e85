"""What can be read of an old ledger: all of a whole one; of a damaged one each page on its own."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from pipeline import files
from pipeline.errors import InputError, ResourceError
from pipeline.store import unsaved
from pipeline.store.contents import what_is_wrong
from pipeline.store.ledger import transfer
from pipeline.store.ledger.header import SUFFIXES
from pipeline.store.ledger.protocol import CONFIG_META, NO, REHEARSAL_META, YES
from pipeline.store.ledger.schema import footer_name
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.ledger.transfer import CARRIED, History, RecordFacts
from pipeline.store.salvage.database import Damage, DatabaseFiles, Found
from pipeline.store.salvage.rows import AnswerRow, AttemptRow, MetaRow, RecordRow, RunRow, TotalRow
from pipeline.store.unsaved import UnsavedAnswer

_LARGEST_TOTAL = 1 << 62

OnAnswer = Callable[[UnsavedAnswer], None]
OnRecord = Callable[[RecordFacts], None]


@dataclass(frozen=True, slots=True)
class OldLedger:
    """What was read of an old ledger."""

    history: History | None
    """Its runs, totals and configurations; None where it has none of them."""
    columns: bytes | None = None
    footers: Mapping[int, bytes] = field(default_factory=dict)
    """Copies of the footers of parts."""
    is_whole: bool = True
    why: str = ""
    damage: Damage = field(default_factory=Damage)
    answers: int = 0
    """Its unsealed answers, older versions of the same among them."""


def read(ledger: Path, scratch: Path, on_answer: OnAnswer, on_record: OnRecord) -> OldLedger:
    """Read a copy of an old ledger, and call `on_answer` with each unsealed answer, `on_record` with each record.

    `scratch` is an empty folder for one more copy: SQLite writes to what it opens. Raises InputError where this is the
    ledger of something else, or of a newer version.
    """
    if not ledger.is_file() and not ledger.with_name(f"{ledger.name}-wal").is_file():
        return OldLedger(None)
    for suffix in SUFFIXES:
        _copy(ledger.with_name(ledger.name + suffix), scratch / f"ledger.sqlite{suffix}")
    try:
        return _read_whole(scratch / "ledger.sqlite", on_answer, on_record)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged value can lead to any error; then the pages are read
        return _read_damaged(ledger, str(error), on_answer, on_record)
    finally:
        for suffix in SUFFIXES:
            (scratch / f"ledger.sqlite{suffix}").unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_file() and source.stat().st_size:
        with source.open("rb") as file:
            files.copy(file, target)


def _read_whole(
    path: Path, on_answer: Callable[[UnsavedAnswer], None], on_record: Callable[[RecordFacts], None]
) -> OldLedger:
    """Through SQL. Raises ResourceError where anything in it is damaged, before anything is handed on."""
    if not path.exists():
        raise ResourceError(f"{path}: there is a log, and no ledger")
    with SqliteLedger(path, check_all=True) as ledger:
        history = transfer.history(ledger)
        if history is None:
            if not ledger.meta_names(""):
                return OldLedger(None)
            raise ResourceError("it does not say what was asked")
        if (why := what_is_wrong(ledger)) is not None:
            raise ResourceError(why)
        answers = 0
        # Newer answers may lie behind a frame of the log that SQLite cannot read: then their times decide.
        is_last = not unsaved.paths(path.parent)
        for one in ledger.unsealed():
            stamp = None if one.stamp is None else one.stamp & 0xFFFFFF
            on_answer(UnsavedAnswer(one.row, one.leader, stamp, is_last=is_last))
            answers += 1
        for facts in transfer.records(ledger):
            on_record(facts)
        names = ledger.meta_names(footer_name_start())
        footers = {int(name.removeprefix(footer_name_start())): ledger.meta(name) or b"" for name in names}
        return OldLedger(history, ledger.meta("schema"), footers, answers=answers)


def footer_name_start() -> str:
    return footer_name(0).removesuffix("0")


def _read_damaged(path: Path, why: str, on_answer: OnAnswer, on_record: OnRecord) -> OldLedger:
    found = _Newest()
    answers = 0
    with DatabaseFiles(path) as database:
        for one in database.rows():
            match one.row:
                case AnswerRow(row=row, leader=leader):
                    on_answer(UnsavedAnswer(row, leader))
                    answers += 1
                case RecordRow(key=key, stamp=stamp, request=request):
                    on_record((key, stamp, request))
                case _:
                    found.add(one)
        damage = replace(database.damage)
    columns = found.meta.get("schema")
    return OldLedger(found.history(), columns, found.footers(), is_whole=False, why=why, damage=damage, answers=answers)


class _Newest:
    """Of every run, sum and setting the newest version: of what a checksum vouches for, before anything else."""

    def __init__(self) -> None:
        self.meta: dict[str, bytes] = {}
        self._ranks: dict[object, tuple[bool, int]] = {}
        self._runs: dict[int, RunRow] = {}
        self._totals: dict[tuple[str, str], int] = {}
        self._attempts: dict[AttemptRow, None] = {}

    def add(self, found: Found) -> None:
        match found.row:
            case RunRow() as run if self._is_newer(("run", run.number), found):
                self._runs[run.number] = run
            case TotalRow() as total if abs(total.value) < _LARGEST_TOTAL and self._is_newer(total[:2], found):
                self._totals[total.scope, total.name] = total.value
            case MetaRow(name=name, value=value) if self._is_newer(name, found):
                self.meta[name] = value
            case AttemptRow() as attempt:
                self._attempts[attempt] = None
            case _:
                pass

    def _is_newer(self, name: object, found: Found) -> bool:
        rank = (found.is_sound, found.order)
        if rank < self._ranks.get(name, rank):
            return False
        self._ranks[name] = rank
        return True

    def footers(self) -> dict[int, bytes]:
        start = footer_name_start()
        named = {name.removeprefix(start): value for name, value in self.meta.items() if name.startswith(start)}
        return {int(number): value for number, value in named.items() if number.isdecimal()}

    def history(self) -> History | None:
        meta = {name: value for name, value in self.meta.items() if _is_carried(name) and _is_good(name, value)}
        if not any(name == CONFIG_META + meta.get("config_hash", b"").decode() for name in meta):
            meta.pop("config_hash", None)  # one of the two is damaged
        by_id = {run.run_id: run for run in self._runs.values()}
        if not meta and not by_id:
            return None
        return History(
            meta=meta,
            runs=[tuple(run) for run in by_id.values()],
            totals=[
                (scope, name, value) for (scope, name), value in self._totals.items() if scope not in {"state", "part"}
            ],
            attempts=[tuple(attempt) for attempt in self._attempts],
            is_whole=False,
        )


def _is_carried(name: str) -> bool:
    return name in CARRIED or name.startswith(CONFIG_META)


def _is_good(name: str, value: bytes) -> bool:
    try:
        if name in {"identity", "lease"} or name.startswith(CONFIG_META):
            return isinstance(orjson.loads(value), dict)
        return value in {YES, NO} if name == REHEARSAL_META else bool(value.decode())
    except ValueError:
        return False


def agreed(totals: Iterable[tuple[str, str, int]], of_rows: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """Totals of a damaged ledger as they are, where the runs add up to `all`, and that is no less than the rows.

    Where it is not, the smaller of both counts, and never less than `of_rows`, which the rows themselves add up to.
    """
    scopes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for scope, name, value in totals:
        scopes["all" if scope == "all" else "runs"][name] += value
    every, runs = scopes["all"], scopes["runs"]
    names = sorted({*every, *runs, *of_rows})
    agreed_all = {
        name: every[name] if every[name] == runs[name] >= of_rows.get(name, 0)
        else max(min(every[name], runs[name]), of_rows.get(name, 0))
        for name in names
    }  # fmt: skip
    return [
        *(("all", name, value) for name, value in agreed_all.items()),
        *((scope, name, value) for scope, name, value in totals if scope != "all"),
    ]
