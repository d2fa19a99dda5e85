"""Whether output directories fit together, and what the one that joins them declares. Nothing is changed here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store import outdir
from pipeline.store.columns import COLUMNS
from pipeline.store.contents import columns_of
from pipeline.store.ledger.protocol import CONFIG_META, REHEARSAL_META, SHARD_META, SHARDS_META, YES, Ledger


@dataclass(frozen=True, slots=True)
class Facts:
    """What has to fit, of one output directory."""

    out: Path
    config_hash: str
    identity: Mapping[str, Any]
    rehearsal: bytes | None
    """None where that is not decided yet."""
    columns: pa.Schema
    shard: str
    """`I/N`; empty for all of a source."""
    shards: tuple[str, ...]
    """That were joined in it."""

    @classmethod
    def of(cls, out: Path, ledger: Ledger) -> Self:
        return cls(
            out,
            config_hash=(ledger.meta("config_hash") or b"").decode(),
            identity=orjson.loads(ledger.meta("identity") or b"{}"),
            rehearsal=ledger.meta(REHEARSAL_META) if ledger.states() else None,
            columns=columns_of(ledger),
            shard=(ledger.meta(SHARD_META) or b"").decode(),
            shards=tuple(orjson.loads(ledger.meta(SHARDS_META) or b"[]")),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What the joined output directory is to be."""

    columns: pa.Schema
    declared: Mapping[str, bytes]
    """For a new ledger."""
    shards: tuple[str, ...]
    has_dataset: bool
    """Whether it was there before."""


def plan_of(facts: Sequence[Facts], here: Facts | None, out: Path, *, keeps: bool) -> Plan:
    """Raises InputError where these do not fit together; `keeps`: also with different configurations."""
    each = [*([] if here is None else [here]), *facts]
    first = each[0]
    if here is not None and here.shard:
        raise InputError(f"{out} is for shard {here.shard} of its source: join the shards in another OUT")
    other = next((one for one in facts if one.config_hash != first.config_hash), None)
    if other is not None and not keeps:
        raise _other_configuration(first, other)
    kinds = {one.rehearsal: one for one in each if one.rehearsal is not None}
    if len(kinds) > 1:
        real, rehearsed = sorted(kinds.values(), key=lambda one: one.rehearsal == YES)
        raise InputError(
            f"{rehearsed.out} holds answers of the emulator (a rehearsal), and {real.out} those of a model: they are "
            "never joined. Nothing was changed"
        )
    columns = _columns(each, here)
    declared = {
        "schema": columns.serialize().to_pybytes(),
        "config_hash": first.config_hash.encode(),
        "identity": (identity := orjson.dumps(dict(first.identity))),
        CONFIG_META + first.config_hash: identity,
        SHARD_META: b"",
        **dict.fromkeys([REHEARSAL_META] if kinds else [], next(iter(kinds), b"")),
    }
    shards = (name for one in facts for name in (one.shard, *one.shards) if name)
    return Plan(columns, declared, tuple(dict.fromkeys(shards)), has_dataset=here is not None)


def _columns(each: Sequence[Facts], here: Facts | None) -> pa.Schema:
    """All columns that one of them has; null in the rows of the others."""
    fields: dict[str, pa.Field] = {}
    for one in each:
        for field in one.columns:
            there = fields.setdefault(field.name, field)
            if there.type != field.type:
                raise InputError(
                    f"{one.out}: its column `{field.name}` ({field.type}) has another type than that of {each[0].out} "
                    f"({there.type}): one OUT has one schema of labels. Nothing was changed"
                )
            if here is not None and field.name not in here.columns.names:
                raise InputError(
                    f"{here.out} was made without the column `{field.name}`, which {one.out} has: join all of them in "
                    "a new OUT. Nothing was changed"
                )
    in_order = [column.name for column in COLUMNS if column.name in fields]
    return pa.schema([fields[name] for name in in_order], metadata=each[0].columns.metadata)


def _other_configuration(first: Facts, other: Facts) -> InputError:
    return InputError(
        f"{other.out} was asked with another configuration than {first.out}, and the answers are not comparable:",
        *_differences(first, other),
        "Nothing was changed. `on_config_change=keep` joins them all the same: the column config_hash says which is "
        "which",
    )


def _differences(first: Facts, other: Facts) -> Iterator[str]:
    lines = outdir.differences(first.identity, other.identity)
    yield from (f"  {line}" for line in lines or ["(a value that is not shown, because it may be a secret)"])
