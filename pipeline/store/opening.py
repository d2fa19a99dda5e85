"""What is checked before an output directory is opened, and what a new one declares."""

import errno
import os
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from pipeline import files
from pipeline.config.loading import load_config
from pipeline.config.run_config import RunConfig
from pipeline.errors import InputError, ResourceError
from pipeline.formatting import whole
from pipeline.labels.arrow import type_of
from pipeline.redaction.redactor import Redactor
from pipeline.store import outdir, schemas
from pipeline.store.contents import check_declared, columns_of
from pipeline.store.contents import is_rehearsal as was_rehearsal
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger.errors import HOLDER_NAME, damaged
from pipeline.store.ledger.header import check_format
from pipeline.store.ledger.protocol import CONFIG_META, NO, REHEARSAL_META, SHARD_META, YES, Ledger
from pipeline.store.rerun import RerunPolicy

LEDGER_NAME = "ledger.sqlite"
_OF_COLUMNS = ("labels", "n")
"""Settings of the request that the columns follow from."""
REBUILD_NAME = ".rebuild"
"""Lies in OUT while a rebuild is at work, or after one was interrupted."""
MERGE_NAME = ".merge"
"""The same of a merge: what it has joined until now."""
SHARDS_NAME = "shards"
"""The folder of shards of a run on a cluster that is not done."""
JOINED_NAME = "joined"
"""A file in such a shard whose rows are in OUT already, and that goes on."""

_IGNORED = frozenset({HOLDER_NAME, SHARDS_NAME, ".DS_Store", ".gitignore", ".gitkeep", "lost+found"})
"""Names in a directory that still counts as empty."""


def check_out(out: Path) -> None:
    """Raise InputError for a path that is neither an output directory nor empty. Nothing in it is touched."""
    if whole(str(out)) != str(out):
        raise InputError(f"{out}: the name of an output directory must be UTF-8, which Parquet's libraries require")
    if out.is_symlink() and not out.exists():
        raise InputError(f"{out} is a link to {out.readlink()}, which is not there; make it, or name another OUT")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; the output is a directory: name another one")
    check_merged(out)
    names = {entry.name for entry in out.iterdir()} - _IGNORED
    is_there = LEDGER_NAME in names
    if not names or (is_there and (out / LEDGER_NAME).stat().st_size):
        return
    if _has_parts(out):
        raise _without_ledger(out, "is empty" if is_there else "is gone")
    if is_there:  # killed before anything was written
        return
    raise InputError(
        f"{out} is not empty and was not made by vision-batch (it holds {min(names)!r}). "
        "Name a new or empty directory; nothing in this one was touched"
    )


def check_ledger(out: Path) -> None:
    """Raise ResourceError where the ledger of OUT is empty, InputError where it has another format: with a way out."""
    path = out / LEDGER_NAME
    if not path.is_file():
        return
    if path.stat().st_size:
        check_format(path)
    elif _has_parts(out):
        raise _without_ledger(out, "is empty")
    else:
        raise InputError(f"{path} is empty: the run that made it ended before it began; run the same command again")


def check_names(out: Path) -> None:
    """Raise OSError where something else has one of our names, before anything is sent."""
    for name in (DATA_NAME, outdir.RUNS_NAME):
        outdir.check_folder(out / name, may_be_link=name == DATA_NAME)
    for name in (outdir.STATUS_NAME, outdir.CONFIG_NAME, outdir.SOURCES_NAME):
        if (out / name).is_dir() and not (out / name).is_symlink():
            raise IsADirectoryError(errno.EISDIR, "is a directory; move it away", str(out / name))


def check_rebuilt(out: Path) -> None:
    """Raise ResourceError where a rebuild was interrupted: ledger and parts may not belong together."""
    if os.path.lexists(out / REBUILD_NAME):
        raise ResourceError(
            f"{out}: a rebuild was interrupted. `vision-batch rebuild {out}` continues it; nothing is lost"
        )
    check_merged(out)


def check_merged(out: Path) -> None:
    """Raise ResourceError where a merge into OUT is not complete."""
    if os.path.lexists(out / MERGE_NAME):
        raise ResourceError(
            f"{out}: a merge into it is at work, or was interrupted. The same `vision-batch merge` continues it"
        )


def check_state(out: Path) -> None:
    """Raise what `check_rebuilt` and `check_names` raise."""
    check_rebuilt(out)
    check_names(out)


def last_config(out: Path) -> RunConfig:
    """The configuration of the last run, from OUT's own `config.toml`; the defaults where there is none."""
    path = out / outdir.CONFIG_NAME
    if files.is_odd(path):
        raise InputError(f"{path} is a link or no plain file; move it away, and the next run writes it anew")
    return load_config(path, environ={}) if path.is_file() else RunConfig()


def identity_of(config: RunConfig, redactor: Redactor) -> dict[str, Any]:
    """What makes the answers of a configuration comparable, without secrets."""
    return redactor.settings(outdir.public(config.identity()))


def declare(
    out: Path,
    ledger: Ledger,
    config: RunConfig,
    identity: Mapping[str, Any],
    policy: RerunPolicy,
    *,
    now: Callable[[], datetime],
    step: Callable[[str], None],
    new: tuple[bool, Collection[str]] = (False, ()),
) -> None:
    """Store the configuration in a new ledger, and compare it with that of an old one.

    `new` says which columns OUT has beside the usual: whether `images`, and those of the kind of endpoint.
    Raises InputError where OUT belongs to another configuration, ResourceError where the ledger has lost its contents.
    """
    name, stored = config.config_hash(), orjson.dumps(identity)
    try:
        declared = check_declared(ledger)
    except ValueError as error:
        raise damaged(ledger.path, f"its configuration: {error}") from None
    if declared is None:
        if _has_parts(out):
            raise _without_ledger(out, "holds nothing")
        made = {"made_at": now().isoformat().encode(), SHARD_META: shard_meta(config)}
        made["schema"] = _schema(config, new).serialize().to_pybytes()
        ledger.set_meta(_declared(name, stored) | made)
        return step("declared")
    _check_new(out, ledger, new, config)
    if policy.selects and declared != name:  # some rows are asked with it; OUT's own stays
        _check_same_columns(out, orjson.loads(ledger.meta("identity") or b"{}"), identity)
        _check_labels(out, ledger, config)
    elif declared != name:
        before = ledger.meta("identity") or b"{}"
        _check_labels(out, ledger, config)  # first: of the ways below none would be open
        if policy.on_config_change == "refuse":
            raise _other_configuration(out, orjson.loads(before), identity, sum(ledger.states().values()))
        ledger.set_meta(_declared(name, stored) | {CONFIG_META + declared: before})
    return _remember(ledger, name, stored)


def _declared(config_hash: str, identity: bytes) -> dict[str, bytes]:
    """What a ledger stores of its configuration, in one transaction: the hash alone would be of none that it knows."""
    return {"config_hash": config_hash.encode(), "identity": identity, CONFIG_META + config_hash: identity}


def shard_meta(config: RunConfig) -> bytes:
    """Which shard an OUT of this configuration is for, as a ledger stores it."""
    shard = config.source.own_shard
    return b"" if shard is None else str(shard).encode()


def _check_shard(out: Path, ledger: Ledger, config: RunConfig) -> None:
    """Raise InputError where OUT is for another shard than this run."""
    before, now = ledger.meta(SHARD_META) or b"", shard_meta(config)
    if before == now:
        return
    holds = f"shard {before.decode()} of its source" if before else "all of its source"
    wants = f"`source.shard={now.decode()}`" if now else "all of it (`source.shard` is not set)"
    way = "" if now else f"; `vision-batch merge {out} ... -o ALL` joins the shards"
    raise InputError(
        f"{out} is for {holds}, and this run is for {wants}: each shard has an OUT of its own{way}. Nothing was sent "
        "or changed"
    )


def _remember(ledger: Ledger, config_hash: str, identity: bytes) -> None:
    if ledger.meta(CONFIG_META + config_hash) != identity:
        ledger.set_meta({CONFIG_META + config_hash: identity})


def _schema(config: RunConfig, new: tuple[bool, Collection[str]]) -> pa.Schema:
    request, (has_several, given) = config.request, new
    return schemas.schema(
        choices=request.choices,
        logprobs=request.logprobs,
        labels=labels_type(config),
        has_several=has_several,
        given=given,
    )


def _check_new(out: Path, ledger: Ledger, new: tuple[bool, Collection[str]], config: RunConfig) -> None:
    """Raise InputError where OUT is for another shard, or was made without a column that this run needs."""
    _check_shard(out, ledger, config)
    (has_several, given), there = new, columns_of(ledger).names
    if has_several and "images" not in there:
        raise InputError(no_column(str(out)))
    if lacking := [name for name in given if name not in there]:
        task = config.request.task
        raise InputError(
            f"{out} was made for another task, and has no column `{lacking[0]}`: `request.task={task}` needs another "
            "OUT. Nothing was sent or changed"
        )


def no_column(out: str) -> str:
    """Why records of several images find no place in an OUT."""
    return (
        f"{out} was made for records of one image, and has no column `images`: records of several need another OUT. "
        "From standard input such an OUT is made with `source.several_images=true`"
    )


def _check_same_columns(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError where the answers of a configuration would not fit the columns of OUT's own."""
    for name in _OF_COLUMNS:
        if (was := _value(before, name)) != (wanted := _value(now, name)):
            raise InputError(
                f"{out}: `request.{name}` decides the columns of all rows, and cannot change for some of them "
                f"({'; '.join(outdir.differences({name: was}, {name: wanted}))}). Leave it as it is, or name another "
                "OUT. Nothing was sent or changed"
            )


def _value(identity: Mapping[str, Any], name: str) -> object:
    """The value of a request's setting, or of the body's field of its name."""
    extra = identity.get("extra")
    return identity.get(f"request.{name}", extra.get(name) if isinstance(extra, Mapping) else None)


def labels_type(config: RunConfig) -> pa.DataType | None:
    """The type of the column `labels`; None where the configuration asks for none."""
    return None if config.labels is None else type_of(config.labels)


def _check_labels(out: Path, ledger: Ledger, config: RunConfig) -> None:
    """Raise InputError where the labels of a changed configuration do not fit into the columns of OUT."""
    stored = schemas.stored_schema(ledger.meta("schema"))
    there = stored.field("labels").type if stored is not None and "labels" in stored.names else None
    if stored is not None and there != labels_type(config):
        raise InputError(
            f"{out}: its column `labels` is fixed ({there or 'there is none'}), and `request.labels` has other fields. "
            "One OUT has one schema of labels: name another OUT. Nothing was sent or changed"
        )


def check_rehearsal(out: Path, ledger: Ledger, *, is_rehearsal: bool) -> None:
    """Answers of the emulator and answers of a model never share an OUT.

    Raises InputError where OUT holds rows of the other kind.
    """
    try:
        before = was_rehearsal(ledger)
    except ValueError as error:
        raise damaged(ledger.path, error) from None
    if before in {is_rehearsal, None} or not ledger.states():
        ledger.set_meta({REHEARSAL_META: YES if is_rehearsal else NO})
        return
    holds = "of a model; a rehearsal (`emulator=True`)" if is_rehearsal else "of the emulator (a rehearsal); a real run"
    raise InputError(f"{out} holds answers {holds} needs an OUT of its own: name another one. Nothing was sent")


def _has_parts(out: Path) -> bool:
    return any((out / DATA_NAME).glob("part-*.parquet")) and (out / outdir.CONFIG_NAME).exists()


def _without_ledger(out: Path, state: str) -> ResourceError:
    return ResourceError(
        f"{out / LEDGER_NAME} {state}. The answers in {DATA_NAME}/ are whole: "
        f"`vision-batch rebuild {out}` makes a new ledger from them"
    )


def _other_configuration(out: Path, before: Mapping[str, object], now: Mapping[str, object], rows: int) -> InputError:
    """One line for each setting that differs, and the way out."""
    lines = outdir.differences(before, now) or ["(a value that is not shown, because it may be a secret)"]
    return InputError(
        f"{out} belongs to another configuration; its answers and new ones would not be comparable:",
        *(f"  {line}" for line in lines),
        "Nothing was sent or changed. Choose one:",
        "  another OUT, or the same settings as before",
        "  `on_config_change=keep`: ask only what OUT does not hold",
        f"  `on_config_change=refresh`: ask the whole source again, also what is among the {rows:,} rows here",
        "  `only=LIST`, `retry_status=STATUS` and the like: ask the rows that they name with these settings, no others",
    )
