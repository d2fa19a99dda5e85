"""`estimate`: tokens, cost and time of a run before it is paid for."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Unpack, cast

from pipeline.api.callbacks import notes_to
from pipeline.api.paths import PathLike
from pipeline.api.places import local
from pipeline.api.running import in_a_loop
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Settings
from pipeline.display.progress import make_progress
from pipeline.emulator.child import child_emulator
from pipeline.errors import InputError
from pipeline.estimates.candidates import candidates_of, split_names
from pipeline.estimates.estimate import estimate_job
from pipeline.estimates.figures import Estimate
from pipeline.estimates.job import Candidate, EstimateJob, parse_size
from pipeline.estimates.sample import Sample, check_sample, sample_job
from pipeline.run.model import emulating
from pipeline.sources import SourceLike, source_list


class EstimateOptions(Settings, total=False):
    """The keywords of `estimate`: these, and every setting that has a keyword."""

    models: str | Sequence[str]
    """Compared side by side: names, `provider:model`, presets and files, as a list or joined by commas."""
    config: PathLike | RunConfig | Sequence[PathLike] | None
    """A preset's name or a TOML file; several are compared."""
    count: int | None
    """Estimates N images without looking at any."""
    sizes: Sequence[str]
    """The sizes of these images, spread evenly: `["1600x1200"]`."""
    probe: int | None
    """Looks at N images of the source, drawn at random."""
    sample: int | None
    """Asks N images, which is paid for: tokens, cost and pace are measured, with 95 % intervals."""
    seed: int
    """Draws another probe or sample."""
    limit: int | None
    """Only the first N images of the source."""
    output_tokens: int | None
    """Tokens of an answer, in place of an assumption."""
    out: PathLike | None
    """Keeps the answers of the sample, so that a run goes on from them; default: a folder in `estimate-sample`."""
    emulator: bool
    """Asks the sample of an emulated endpoint on this machine."""
    yes: bool
    """As in `run`."""
    quiet: bool
    """Prints neither progress nor notes; the default."""
    on_note: Callable[[str], None] | None
    """Receives each note of the sample; default: standard error."""


_ARGUMENTS = EstimateOptions.__annotations__.keys() - Settings.__annotations__.keys()


def estimate(sources: SourceLike = (), **options: Unpack[EstimateOptions]) -> Estimate:
    """Tokens, cost and time of a run, each with a range, from the headers of the images alone.

    `EstimateOptions` lists the keywords. Without `models` the model of the configuration counts, or a few well-known
    ones. `count` and `sizes` take the place of `sources`. Only `sample` sends requests and needs a key.

    Raises:
        InputError: the arguments or the source are wrong, or no image can be read.
        OutInUseError, BudgetReachedError, EndpointStoppedError, ResourceError, DamagedLedgerError, InterruptedRunError,
        CallbackError: of a sample, as `run`.
    """
    settings = cast("Settings", {name: value for name, value in options.items() if name not in _ARGUMENTS})
    job, quiet = _job(source_list(sources), options, settings), options.get("quiet", True)
    emulator, wanted, out = options.get("emulator", False), options.get("sample"), options.get("out")
    if wanted is None:
        if emulator or out is not None:
            what = "`out=` is for the answers of a sample (`output=FILE` writes the estimate)"
            if emulator:
                what = "`emulator=True` answers the requests of a sample, and an estimate sends none"
            raise InputError(f"{what}: say how many images to ask with `sample=N`")
        with closing(make_progress(quiet=quiet)) as progress:
            return in_a_loop(lambda: estimate_job(job, progress.survey))
    place = None if out is None else local(out, "estimate")
    sample = Sample(wanted=wanted, seed=job.seed, out=place, yes=options.get("yes", False))
    return _sampled(job, sample, options, emulator=emulator)


def _job(sources: list[SourceLike], options: EstimateOptions, settings: Settings) -> EstimateJob:
    config = options.get("config")
    configs = [config] if config is None or isinstance(config, str | Path | RunConfig) else [*config]
    candidates, notes = candidates_of(split_names(options.get("models", ())), configs, settings)
    if (shard := next((one.config.source.own_shard for one in candidates), None)) is not None:
        notes = (*notes, f"of shard {shard} alone; without `source.shard` it is of all shards")
    return EstimateJob(
        candidates=candidates,
        sources=sources,
        count=options.get("count"),
        sizes=[parse_size(size) for size in options.get("sizes", ())],
        probe=options.get("probe"),
        seed=options.get("seed", 0),
        limit=options.get("limit"),
        output_tokens=options.get("output_tokens"),
        today=datetime.now(UTC).date(),
        notes=notes,
    )


def _sampled(job: EstimateJob, sample: Sample, options: EstimateOptions, *, emulator: bool) -> Estimate:
    quiet = options.get("quiet", True)
    note = notes_to(options.get("on_note"), quiet=quiet)
    progress = make_progress(quiet=quiet)
    with ExitStack() as stack:
        stack.callback(progress.close)
        if emulator:
            sample = replace(sample, emulators=("",) * len(job.candidates))
            check_sample(job, sample)
            sample = replace(sample, emulators=tuple(_emulators(job.candidates, stack)))
        return in_a_loop(lambda: sample_job(job, sample, progress.survey, progress.show, note))


def _emulators(candidates: Sequence[Candidate], stack: ExitStack) -> list[str]:
    """The address of an emulator for each candidate; candidates that are billed alike share one."""
    arguments = [tuple(emulating(one.config, one.rules_host)) for one in candidates]
    urls = {words: stack.enter_context(child_emulator(words)) for words in dict.fromkeys(arguments)}
    return [urls[words] for words in arguments]
