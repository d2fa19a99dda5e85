"""`run`, `run_async` and `dry_run`: ask an endpoint about the images of a source."""

from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack, cast

import anyio

from pipeline.api.callbacks import notes_to
from pipeline.api.paths import PathLike
from pipeline.api.places import is_address, named, opened_out, readable_if_any
from pipeline.api.progress import RunProgress, reporter
from pipeline.api.running import in_a_loop, opened_endpoint, with_model
from pipeline.commands.preview import NOTHING_TO_ASK, FirstRequest, first_request
from pipeline.config.keywords import resolve
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Settings
from pipeline.display.metrics import MetricsFile, metrics_of
from pipeline.display.progress import Progress, make_progress
from pipeline.engine.hooks import OnAnswer, checked_hook
from pipeline.engine.stats import RunStats, RunSummary
from pipeline.errors import InputError
from pipeline.estimates.sample import Sample, run_sample
from pipeline.ray.plan import absorb_shards
from pipeline.run.job import Job
from pipeline.run.run import run_job
from pipeline.sources import SourceLike, has_stream, source_list
from pipeline.sources.idlist import IdList, IdsLike
from pipeline.sources.items import plain_number
from pipeline.store.rerun import RerunPolicy


class RunOptions(Settings, total=False):
    """The keywords of `run`: these, and every setting that has a keyword."""

    config: PathLike | RunConfig | None
    """A preset's name (`"openai"`), a TOML file, or a `RunConfig`."""
    emulator: bool
    """Asks an emulated endpoint on this machine: no key, no cost."""
    limit: int | None
    """Only the first N images of the source."""
    sample: int | None
    """Ask N random images, spread over all sizes. A run without it asks the rest."""
    seed: int
    """Draws another sample."""
    max_failed: str | int
    """Rows without an answer before `exit_code` is 1: a number, or a share such as `"2%"`."""
    fail_on_any: bool
    """`exit_code` is 1 while any row of OUT has no answer, also one of an earlier run."""
    retry_failed: bool
    """Asks rows without an answer again: failed, invalid, or truncated before any text."""
    retry_kind: str | Iterable[str] | None
    """Asks rows with one of these values of `error_kind` again."""
    retry_status: str | Iterable[str] | None
    """Asks rows with one of these statuses again."""
    retry_where: str | None
    """Asks rows again for which this SQL condition is true; with the three above, rows that match both."""
    only: IdsLike | None
    """Asks no other records than these: a file with one id a line, `-` for standard input, or ids.

    Without further words about rows it asks all of them, also those that have a row.
    """
    refresh: bool
    """Asks everything again."""
    refresh_changed: bool
    """Asks files again whose size or time has changed."""
    on_config_change: str
    """Where OUT has answers to other settings: `refuse` them (the default), `keep` or `refresh` them."""
    yes: bool
    """Agrees to a run without a budget whose expected cost is above `budget.confirm_usd`."""
    confirm: Callable[[str], bool] | None
    """Answers the question whether such a run may begin."""
    on_answer: OnAnswer | None
    """Receives every answer before its row is written: the row and the record, as dictionaries.

    It returns a dictionary of changed columns, `Ask`, `Fail`, or None, which keeps the row. A function of the program,
    `async` or not; one that is not runs in threads.
    """
    quiet: bool
    """Prints neither progress nor notes."""
    log_json: bool
    """Prints progress and notes as JSON, an event a line."""
    on_progress: Callable[[RunProgress], None] | None
    """Receives the progress of the run about every second, in the thread of the run."""
    on_note: Callable[[str], None] | None
    """Receives each note of the run; default: standard error."""
    state: PathLike | None
    """The directory of the live ledger, where `out` is an address in a bucket; default: one in the user's cache."""


_ARGUMENTS = RunOptions.__annotations__.keys() - Settings.__annotations__.keys()


def run(sources: SourceLike, *, out: PathLike, **options: Unpack[RunOptions]) -> RunSummary:
    """Asks a vision endpoint about every image of `sources` that `out` holds no answer for.

    `sources` is a folder, a glob or a manifest, a list of them, or records in memory: dictionaries (the columns of a
    row), images of Pillow, a `datasets.Dataset`. `config` names a preset or a file. Settings have keywords (`model=`,
    `prompt=`, `max_cost=`, ...); `overrides={"images.quality": 90}` reaches every other one. `RunOptions` lists all
    keywords. A run without a budget (`max_cost=`) whose expected cost is above `budget.confirm_usd` (10 dollars) needs
    `yes=True`, or a `confirm` that returns True. A call from a notebook runs in a thread of its own.

    Returns the summary of the run; its `exit_code` is 1 where more than `max_failed` rows have no answer.

    Raises:
        InputError: the settings or the source are wrong, or the run is not confirmed. Nothing was sent.
        OutInUseError: another run holds `out`.
        BudgetReachedError: the budget or the time is used up; the same call goes on.
        EndpointStoppedError: the endpoint rejects the key, the quota or the model, or cannot be reached.
        ResourceError: the disk, a permission or the ledger failed.
        DamagedLedgerError: the ledger of `out` cannot be read; `rebuild` makes a new one.
        InterruptedRunError: a signal ended the run.
        CallbackError: `on_progress` or `on_note` raised; its exception is the cause.

    Errors that come after the start have the `summary` of what was committed until then.
    """
    with _prepared(sources, out, options) as work:
        return in_a_loop(work)


async def run_async(sources: SourceLike, *, out: PathLike, **options: Unpack[RunOptions]) -> RunSummary:
    """Does what `run` does, in the caller's event loop (asyncio). Cancelling it stops the run as Ctrl-C does.

    Raises:
        InputError, OutInUseError, BudgetReachedError, EndpointStoppedError, ResourceError, DamagedLedgerError,
        InterruptedRunError, CallbackError: as `run`.
    """
    with ExitStack() as stack:
        prepared = _prepared(sources, out, options)
        work = await anyio.to_thread.run_sync(stack.enter_context, prepared)
        return await work()


@contextmanager
def _prepared(
    sources: SourceLike, out: PathLike, options: RunOptions
) -> Iterator[Callable[[], Coroutine[Any, Any, RunSummary]]]:
    """Yields the run as a function to be awaited; its endpoint and its display are open for the block."""
    quiet, emulator = options.get("quiet", False), options.get("emulator", False)
    settings = cast("Settings", {name: value for name, value in options.items() if name not in _ARGUMENTS})
    with ExitStack() as stack:
        resolved = stack.enter_context(opened_endpoint(options.get("config"), settings, emulator=emulator))
        note = notes_to(options.get("on_note"), quiet=quiet)
        if is_address(out) and resolved.engine.kind != "local":
            raise InputError(f"{named(out)}: `engine.kind=ray` writes to a file system that every node sees")
        place = stack.enter_context(opened_out(out, options.get("state"), note))
        job = _job(source_list(sources), place.out, resolved, options, stack)
        job = replace(job, address=place.address, open_dataset=place.open_dataset)
        progress = make_progress(quiet=quiet, log_json=options.get("log_json", False))
        stack.callback(progress.close)
        metrics = metrics_of(resolved, named(out))
        show = _shown(progress, metrics, options)
        work = partial(_runner(job, note), job, show, say=note)
        if (sample := options.get("sample")) is not None:
            if resolved.engine.kind != "local":
                raise InputError("`sample=` and `engine.kind=ray` do not go together: ask a sample on one machine")
            drawn = Sample(wanted=sample, seed=options.get("seed", 0))
            work = partial(run_sample, job, drawn, progress.survey, show, note)
        work = partial(place.around, work)
        yield work if metrics is None else partial(metrics.of, work)


def _runner(job: Job, note: Callable[[str], None] | None) -> Callable[..., Coroutine[Any, Any, RunSummary]]:
    """What runs the job: this process, or a cluster. What a cluster left unfinished is joined first."""
    if job.config.engine.kind == "local":
        absorb_shards(job.out, note)
        return run_job
    from pipeline.ray.driver import run_on_cluster  # noqa: PLC0415 - for those who use it

    return run_on_cluster


def _ids(sources: list[SourceLike], only: IdsLike | None, stack: ExitStack) -> IdList | None:
    if only is None:
        return None
    if has_stream(sources) and only == "-":
        raise InputError("standard input (-) is the SOURCE already; put the ids into a file and name it: `only=FILE`")
    ids = IdList.of(only)
    stack.callback(ids.close)
    return ids


def _job(sources: list[SourceLike], out: Path, config: RunConfig, options: RunOptions, stack: ExitStack) -> Job:
    rerun = RerunPolicy.parse(
        retry_failed=options.get("retry_failed", False),
        retry_kind=_joined(options.get("retry_kind")),
        retry_status=_joined(options.get("retry_status")),
        retry_where=options.get("retry_where"),
        only=_ids(sources, options.get("only"), stack),
        refresh=options.get("refresh", False),
        refresh_changed=options.get("refresh_changed", False),
        on_config_change=options.get("on_config_change", "refuse"),
    )
    return Job(
        sources=sources,
        out=out,
        config=config,
        emulated=options.get("emulator", False),
        limit=_checked_limit(options.get("limit")),
        max_failed=str(options.get("max_failed", 0)),
        fail_on_any=options.get("fail_on_any", False),
        rerun=rerun,
        yes=options.get("yes", False),
        confirm=options.get("confirm"),
        on_answer=checked_hook(options.get("on_answer")),
    )


def _checked_limit(limit: object) -> int | None:
    number = plain_number(limit)
    if number is None or (isinstance(number, int) and not isinstance(number, bool) and number >= 1):
        return number
    raise InputError(f"`limit={limit!r}`: a limit is a whole number of at least 1")


def _joined(names: str | Iterable[str] | None) -> str | None:
    return names if names is None or isinstance(names, str) else ",".join(names)


def _shown(progress: Progress, metrics: MetricsFile | None, options: RunOptions) -> Callable[[RunStats], None]:
    """Shows the counts of the run wherever they are wanted."""
    shows: list[Callable[[RunStats], None]] = [progress.show]
    if metrics is not None:
        shows.append(metrics.show)
    if (on_progress := options.get("on_progress")) is not None:
        shows.append(reporter(on_progress))
    if len(shows) == 1:
        return progress.show

    def show(stats: RunStats) -> None:
        for each in shows:
            each(stats)

    return show


def dry_run(sources: SourceLike, *, out: PathLike | None = None, **options: Unpack[RunOptions]) -> str:
    """The first request of a run as text, without the base64 of the image. Nothing is sent, nothing is written.

    With `out` it is the first that is missing there. The keywords are those of `run`.

    Raises:
        InputError: the settings or the source are wrong, none of the first images can be prepared, or the run would
            refuse `out`.
        OutInUseError: a run holds `out`.
        ResourceError, DamagedLedgerError: `out` cannot be read.
    """
    first = rehearsal(sources, out=out, **options)
    return NOTHING_TO_ASK if first is None else str(first)


def rehearsal(
    sources: SourceLike, *, out: PathLike | None = None, **options: Unpack[RunOptions]
) -> FirstRequest | None:
    """The same as a value; None where `out` holds an answer for every image."""
    settings = cast("Settings", {name: value for name, value in options.items() if name not in _ARGUMENTS})
    config = options.get("config")
    resolved = resolve(config, with_model(settings, config) if options.get("emulator") else settings)
    with ExitStack() as stack:
        here = None if out is None else readable_if_any(out)
        job = _job(source_list(sources), here or Path(), resolved, options, stack)
        numbers = [number for number in (job.limit, options.get("sample")) if number is not None]
        return first_request(replace(job, limit=min(numbers, default=None)), has_out=here is not None)
