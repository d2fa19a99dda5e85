"""What an output directory holds, and whether a run is at work on it: from `status.json`, in no time.

The ledger belongs to a run as long as it goes on; outsiders read what it publishes every two seconds.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.catalogue import all_families
from pipeline.config.run_config import RunConfig
from pipeline.engine.progress import by_outcome, counted, tokens_text, with_unknown
from pipeline.errors import ErrorKind, InputError, ResourceError, VisionBatchError
from pipeline.files import disk_errors
from pipeline.formatting import passed_words, printable
from pipeline.money import known_cost, usd_text
from pipeline.records import PROMPT_NAME, Status
from pipeline.run.labels import schema_words
from pipeline.store import between_runs, parquet
from pipeline.store.layout import DATA_NAME, way_out
from pipeline.store.opening import last_config
from pipeline.store.outdir import RUNS_NAME
from pipeline.tokens.ratios import Billed, Ratio, fits, ratios_of
from pipeline.tokens.text import message_tokens

JUDGED = 200
"""Answers that rules are tried on."""
COLUMNS = ("model", "prompt_name", "attempts", "sent_width", "sent_height", "prompt_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutStatus:
    """The whole of OUT, and the last or present run on it."""

    out: str
    state: str
    """`running`, `done`, `stopped`, or `killed`: it says running, and its process is gone."""
    run_id: str | None
    updated_at: str | None
    images: int | None
    """In the source of that run, where known."""
    done: int
    """Rows committed by it or before it: one for each image and prompt."""
    images_per_s: float
    waiting: str | None
    records: dict[str, int]
    """All records of OUT, by status."""
    errors: dict[str, int]
    """Those without a good answer, by kind."""
    requests: int
    prompt_tokens: int | None
    """None where no answer states it; so `completion_tokens`."""
    predicted_prompt_tokens: int
    """Of all answers, also of those without a count of billed tokens."""
    completion_tokens: int | None
    cost_usd: Decimal | None
    """Of all runs; None where no price is known."""
    cost_unknown_usd: Decimal
    """The most that requests with an unknown bill can have cost, over all runs; no part of `cost_usd`."""
    unpriced: int
    runs: int
    """That have ended and asked something."""
    pages: int = 0
    """As billed, where pages are, and no tokens."""
    is_rehearsal: bool = False
    """Whether the emulator has answered: nothing was paid."""
    ratios: tuple[Ratio, ...] = ()
    """Billed against predicted prompt tokens, by model."""
    warnings: tuple[str, ...] = ()
    """Where a token rule no longer fits, and which one would."""
    prompts: int = 1
    """That the last or present run asks of each image."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Files in the sources of the last or present run that are no records, by kind."""
    stopped: str | None = None
    """Why the last run ended early, in one line."""
    limit: int | None = None
    """The records that the last run asked about at most, where it was told so."""
    is_selection: bool = False
    """Whether the last run chose its records or rows, by a sample, ids, or what is asked again."""
    used_up: str | None = None
    """The setting of the budget that stopped the last run."""
    shard: str | None = None
    """Which shard of its source OUT is for (`0/8`); None where it is for all of it."""
    damage: tuple[str, ...] = ()
    """What in `data/` is not as it was written; a run refuses such an OUT."""

    @property
    def bad(self) -> int:
        """Records that `check=` counts: without an answer."""
        failed = self.records.get(Status.FAILED, 0) + self.records.get(Status.INVALID, 0)
        return failed + self.errors.get(ErrorKind.REASONING_EXHAUSTED, 0)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; money as text."""
        ratios = [{**asdict(ratio), "ratio": round(ratio.value, 6)} for ratio in self.ratios]
        money = {name: usd_text(getattr(self, name)) for name in ("cost_usd", "cost_unknown_usd")}
        return asdict(self) | money | {"ratios": ratios}


def read_status(out: Path, *, verify: bool = False) -> OutStatus:
    """What OUT holds, and whether its parts are as they were written, by their footers; `verify` reads them whole.

    The parts are compared with the ledger only while no run holds OUT.
    Raises InputError for a directory that no run has made, OutInUseError where a run has only just begun on it.
    """
    with disk_errors(out):
        return _read_status(out, verify=verify)


def _read_status(out: Path, *, verify: bool) -> OutStatus:
    if not (out / "ledger.sqlite").exists():  # of what is no file there `status.json` tells as much
        between_runs.check_there(out)
    published = _published(out)
    try:
        if "totals" not in published or _state(published) == "killed":  # published before the end
            published |= between_runs.look(out)
        found = _of(out, published)
        lines(found)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):  # the file is damaged
        found = _of(out, between_runs.look(out))
    return replace(found, damage=tuple(_damage(out, verify=verify)))


def _of(out: Path, published: dict[str, Any]) -> OutStatus:
    ratios = ratios_of(published.get("models", {}))
    return _status(out, published, ratios, tuple(_warning(out, ratio) for ratio in ratios if ratio.is_off))


def _damage(out: Path, *, verify: bool) -> Iterator[str]:
    try:
        yield from between_runs.damages(out, verify=verify)
    except (VisionBatchError, OSError) as error:
        yield str(error)


def _warning(out: Path, ratio: Ratio) -> str:
    """What is wrong, and which published rule would be right, by the newest answers."""
    said = (
        f"the token rule of {printable(ratio.model)} does not fit: {ratio.value:.3f} of what was predicted is billed, "
        f"over {ratio.answers:,} answers, and estimates of it are as wrong"
    )
    try:
        config = last_config(out)
        bills = newest_bills(out, ratio.model, config.prompt_names[0])
        better = _fitting(config, bills)
    except (InputError, ResourceError, OSError):
        return said
    if not better:
        return f"{said}. No published rule gives these bills"
    return f"{said}. A rule that would fit: {'; or '.join(better[:2])}. To say so: `request.model_family=NAME`"


def _fitting(config: RunConfig, bills: list[Billed]) -> list[str]:
    request = config.requests[0]
    rules = [(family.name, dated.rule) for family in all_families(config.catalogue.file) for dated in family.rules]
    text = message_tokens(*request.message_texts, schema_words(config))
    return [str(fit) for fit in fits(bills, rules, detail=request.detail, text=text)] if bills else []


def newest_bills(out: Path, model: str, prompt_name: str = PROMPT_NAME) -> list[Billed]:
    """Answers of the newest part that has any of this model and prompt, evenly out of all of them."""
    data = out / DATA_NAME
    for number in reversed(parquet.part_numbers(data)):
        rows = [
            Billed(*(int(row[name]) for name in COLUMNS[3:]))
            for row in parquet.read_columns(data, number, COLUMNS)
            if (row["model"], row["prompt_name"]) == (model, prompt_name)
            and row["attempts"] == 1
            and row["sent_width"]
            and row["prompt_tokens"]
        ]
        if rows:
            return rows[:: max(1, len(rows) // JUDGED)][:JUDGED]
    return []


def _published(out: Path) -> dict[str, Any]:
    try:
        published = json.loads(files.read(out / "status.json"))
    except (OSError, ValueError):
        return {}
    return published if isinstance(published, dict) else {}


def _status(out: Path, published: dict[str, Any], ratios: tuple[Ratio, ...], warnings: tuple[str, ...]) -> OutStatus:
    totals = published["totals"]
    cost_usd, unknown_usd = Decimal(totals.get("cost_usd", "0")), Decimal(totals.get("cost_unknown_usd", "0"))
    is_unknown = totals.get("unpriced", 0) > 0 or (
        totals.get("requests", 0) > 0 and published.get("cost_usd", "") is None
    )
    return OutStatus(
        out=str(out),
        state=_state(published),
        run_id=published.get("run_id"),
        updated_at=published.get("updated_at"),
        images=published.get("images"),
        prompts=published.get("prompts", 1),
        done=published.get("skipped", 0) + published.get("asked", 0),
        images_per_s=published.get("images_per_s", 0.0),
        waiting=published.get("waiting"),
        records=published["records"],
        errors=published["errors"],
        requests=totals.get("requests", 0),
        prompt_tokens=_token_count(published, "prompt_tokens"),
        predicted_prompt_tokens=totals.get("predicted_prompt_tokens", 0),
        completion_tokens=_token_count(published, "completion_tokens"),
        cost_usd=known_cost(cost_usd, unknown_usd, is_unknown=is_unknown),
        cost_unknown_usd=unknown_usd,
        unpriced=totals.get("unpriced", 0),
        runs=sum(_has_asked(path) for path in (out / RUNS_NAME).glob("*.json")),
        pages=totals.get("pages", 0),
        is_rehearsal=published.get("rehearsal") is True,
        ratios=ratios,
        warnings=warnings,
        passed_over=dict(published.get("passed_over", {})),
        stopped=published.get("stopped"),
        limit=published.get("limit"),
        is_selection=published.get("is_selection") is True,
        used_up=published.get("used_up"),
        shard=_shard(out),
    )


def _shard(out: Path) -> str | None:
    with suppress(InputError, ResourceError, OSError):
        shard = last_config(out).source.own_shard
        return None if shard is None else str(shard)
    return None


def _has_asked(path: Path) -> bool:
    try:
        summary = json.loads(files.read(path))
    except (OSError, ValueError):
        return True
    return not isinstance(summary, dict) or summary.get("requests") != 0 or summary.get("asked") != 0


def _token_count(published: dict[str, Any], name: str) -> int | None:
    """A total of tokens; None where there are answers, and none states its tokens."""
    answered = sum(published["records"].values()) > published["records"].get(Status.FAILED, 0)
    count = int(published["totals"].get(name, 0))
    return None if answered and published["totals"].get("requests") and not count else count


def _state(published: dict[str, Any]) -> str:
    state = str(published.get("state", "unknown"))
    if state == "running" and published.get("host") == socket.gethostname() and not _is_alive(published.get("pid")):
        return "killed"
    return state


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lines(status: OutStatus) -> list[str]:
    """The same for people."""
    records = counted(sum(status.records.values()), "record")
    shard = "" if status.shard is None else f", shard {status.shard} of its source"
    said = [f"{status.out}{shard}: {records} ({by_outcome(status.records) or 'none yet'})"]
    if status.errors:
        kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in sorted(status.errors.items()))
        said.append(f"without a good answer: {kinds}")
    said.append(f"{_billed(status)}; {counted(status.requests, 'request')}")
    more = f", and {status.unpriced:,} answers whose cost is unknown" if status.cost_usd and status.unpriced else ""
    cost = with_unknown(status.cost_usd, status.cost_unknown_usd)
    more += " (rehearsed with the emulator: nothing was paid)" if status.is_rehearsal else ""
    said.append(f"cost: {cost}{more}; {counted(status.runs, 'run')} ended")
    if len(status.ratios) > 1 or status.warnings:
        said += [
            f"  {printable(ratio.model)}: {ratio.value:.3f} of the predicted tokens are billed"
            for ratio in status.ratios
        ]
    said += [f"warning: {warning}" for warning in status.warnings]
    said += [f"damage in {DATA_NAME}/: {printable(line)}" for line in status.damage]
    if status.damage:
        said.append(printable(way_out(Path(status.out), status.damage)))
    if status.passed_over:
        said.append(f"passed over in its sources: {printable(passed_words(status.passed_over))}")
    said.append(_about_run(status))
    return said


def _billed(status: OutStatus) -> str:
    if status.pages and not status.prompt_tokens:
        return f"pages: {status.pages:,}"
    tokens_in, tokens_out = tokens_text(status.prompt_tokens), tokens_text(status.completion_tokens)
    return f"tokens: {tokens_in} in{_ratio(status)}; {tokens_out} out"


def _time(stamp: str | None) -> str:
    """ISO 8601 to the second: `2026-11-21 11:08:10 UTC`."""
    return "an unknown time" if stamp is None else f"{datetime.fromisoformat(stamp):%Y-%m-%d %H:%M:%S %Z}"


def _ratio(status: OutStatus) -> str:
    """Billed against predicted, over the answers with both numbers."""
    predicted = sum(ratio.predicted_prompt_tokens for ratio in status.ratios)
    if not predicted:
        return ""
    value = sum(ratio.prompt_tokens for ratio in status.ratios) / predicted
    answers = sum(ratio.answers for ratio in status.ratios)
    over = "" if predicted == status.predicted_prompt_tokens else f" for {answers:,} answers that took one request"
    if round(value, 3) == 1:
        return f", as predicted{over}"
    return f" ({value:.3f} of the {predicted:,} predicted{over})"


def _about_run(status: OutStatus) -> str:
    if status.run_id is None:
        return "no run has been at work here since it was merged, or its ledger rebuilt"
    of = f" of {status.images * status.prompts:,}" if status.images is not None else ""
    speed = f", {status.images_per_s:.1f} a second" if status.images_per_s else ""
    unit = "images" if status.prompts == 1 else f"rows ({status.prompts} prompts an image)"
    progress = f"{status.done:,}{of} {unit}{speed}, at {_time(status.updated_at)}"
    match status.state:
        case "running":
            waits = f" ({printable(status.waiting)})" if status.waiting else ""
            return f"run {status.run_id} is at work{waits}: {progress}"
        case "killed":
            return f"run {status.run_id} was killed: {progress}. The same command goes on where it stopped"
        case "stopped":
            why = printable(status.stopped or "The same command goes on where it stopped")
            return f"run {status.run_id} stopped early: {progress}. {why[:1].upper()}{why[1:]}"
        case _:
            return f"the last run, {status.run_id}, is complete: {progress}"
