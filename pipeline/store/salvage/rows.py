"""Which table of the ledger a record is from, by its shape alone: no two tables have the same."""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from pipeline.records import record_key
from pipeline.store.salvage.records import Value

KEY_BYTES = 16


class AnswerRow(NamedTuple):
    """An unsealed answer."""

    seq: int
    key: bytes
    part: int
    row: bytes
    leader: bytes | None


class RecordRow(NamedTuple):
    """What the ledger stores of an answered record for good."""

    key: bytes
    part: int
    state: int
    run: int
    stamp: int | None
    request: int | None


class RunRow(NamedTuple):
    number: int
    run_id: str
    config_hash: str
    rerun: str
    state: str


class AttemptRow(NamedTuple):
    """A billed attempt of a record that has no row yet."""

    key: bytes
    run_id: str
    at: str
    bill: bytes


class TotalRow(NamedTuple):
    scope: str
    name: str
    value: int


class MetaRow(NamedTuple):
    name: str
    value: bytes


LedgerRow = AnswerRow | RecordRow | RunRow | AttemptRow | TotalRow | MetaRow


def ledger_row(rowid: int | None, values: Sequence[Value]) -> LedgerRow | None:  # noqa: PLR0911 - a table of shapes
    """The row of our tables that these columns are; None for one of an index, of the schema, or of nothing known."""
    match rowid, values:
        case int(seq), [None, bytes(key), int(part), bytes(row), None | bytes() as leader] if is_answer(key, row):
            return AnswerRow(seq, key, part, row, leader) if leader is None or len(leader) == KEY_BYTES else None
        case int(number), [None, str(run_id), str(config_hash), str(rerun), "begun" | "ended" as state]:
            return RunRow(number, run_id, config_hash, rerun, state)
        case int(), [None, bytes(key), str(run_id), str(at), bytes(bill)] if len(key) == KEY_BYTES and is_json(bill):
            return AttemptRow(key, run_id, at, bill)
        case None, [bytes(key), int(part), int(state), int(run), None | int() as stamp, None | int() as request]:
            return RecordRow(key, part, state, run, stamp, request) if len(key) == KEY_BYTES else None
        case None, [str(scope), str(name), int(value)]:
            return TotalRow(scope, name, value)
        case None, [str(name), bytes(value)]:
            return MetaRow(name, value)
        case _:
            return None


def is_answer(key: bytes, row: bytes) -> bool:
    """Whether `row` is the answer of the record that `key` stands for: JSON, and its id makes this key."""
    if len(key) != KEY_BYTES or not row.startswith(b"{"):
        return False
    try:
        values = orjson.loads(row)
        return record_key(values["id"], values["prompt_name"]) == key
    except (ValueError, KeyError, TypeError):
        return False


def is_json(value: bytes) -> bool:
    try:
        orjson.loads(value)
    except ValueError:
        return False
    return True
