"""What Python callers and the command line use alike. Blocking; from a notebook as well."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack

import anyio

from pipeline.catalogue import family_named, family_of, seller_in
from pipeline.commands.check import CheckReport
from pipeline.commands.check import check_endpoints as ask_each
from pipeline.commands.compact import CompactReport
from pipeline.commands.compact import compact as compact_out
from pipeline.commands.models import Asked, ModelCard, model_cards
from pipeline.commands.preview import FirstRequest, first_request
from pipeline.commands.rebuild import rebuild as rebuild_ledger
from pipeline.commands.rebuilt import RebuildReport
from pipeline.commands.status import OutStatus, read_status
from pipeline.config.loading import load_config, marked_as, presets
from pipeline.config.sections import RunConfig
from pipeline.emulator.child import child_emulator
from pipeline.engine.progress import make_progress, say
from pipeline.engine.stats import RunSummary
from pipeline.errors import EndpointStoppedError, InputError
from pipeline.estimates.estimate import (
    DEFAULT_PRESETS,
    Candidate,
    EstimateJob,
    estimate_job,
    is_configuration,
    parse_size,
    provider_and_model,
)
from pipeline.estimates.figures import Estimate
from pipeline.estimates.render.bar import counting
from pipeline.estimates.sample import Sample, check_sample, run_sample, sample_job
from pipeline.limits.decision import duration_s
from pipeline.run.job import Job
from pipeline.run.prepare import emulated, emulating
from pipeline.run.run import run_job
from pipeline.store import parquet
from pipeline.store.dataset import check_ledger
from pipeline.store.rerun import Asking

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
PathLike = str | Path
EMULATED_MODEL = "gpt-4o"
"""Whose token rule the emulator bills by where no model is named."""


class Settings(TypedDict, total=False):
    """Settings that have a short name, in Python as on the command line. None is as good as absent."""

    model: str | None
    model_family: str | None
    prompt: str | None
    system: str | None
    detail: str | None
    max_image_tokens: int | None
    max_tokens: int | None
    temperature: float | None
    base_url: str | Sequence[str] | None
    """One address, or several endpoints that share the work."""
    api_key_env: str | None
    concurrency: int | Literal["auto"] | None
    rpm: float | None
    tpm: float | None
    max_cost: Decimal | float | str | None
    """US dollars, of this run with its resumes; `max_cost_total`: of all runs on `out`."""
    max_cost_total: Decimal | float | str | None
    max_time: float | str | None
    """Of this call: seconds, or a duration such as `"4h"`."""
    skip_bad_rows: bool | None
    on_duplicate_id: str | None
    dedup: bool | None
    grace_s: float | None
    overrides: Mapping[str, Any]
    """Any other key, dotted: `{"images.quality": 90}`."""


_KEYS = {
    "model": "request.model",
    "model_family": "request.model_family",
    "prompt": "request.prompt",
    "system": "request.system",
    "detail": "request.detail",
    "max_image_tokens": "images.max_image_tokens",
    "max_tokens": "request.max_tokens",
    "temperature": "request.temperature",
    "base_url": "endpoint.base_url",
    "api_key_env": "endpoint.api_key_env",
    "concurrency": "limits.concurrency",
    "rpm": "limits.rpm",
    "tpm": "limits.tpm",
    "max_cost": "budget.max_cost_usd",
    "max_cost_total": "budget.max_cost_total_usd",
    "max_time": "budget.max_time_s",
    "skip_bad_rows": "source.skip_bad_rows",
    "on_duplicate_id": "source.on_duplicate_id",
    "dedup": "request.dedup",
    "grace_s": "limits.grace_s",
}


def run(
    sources: PathLike | Sequence[PathLike],
    *,
    out: PathLike,
    config: PathLike | RunConfig | None = None,
    emulator: bool = False,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    max_failed: str | int = 0,
    asking: Asking | None = None,
    yes: bool = False,
    confirm: Callable[[str], bool] | None = None,
    quiet: bool = False,
    **settings: Unpack[Settings],
) -> RunSummary:
    """Ask a vision endpoint about every image of `sources` that `out` does not hold an answer for.

    `config` is a preset's name (`"openai"`) or a TOML file. `settings` are its keys: the short ones of
    the command line (`model=`, `prompt=`, `base_url=`, `concurrency=`, ...) or dotted ones in a dictionary
    (`overrides={"images.quality": 90}`). With `emulator` nothing leaves this machine and no key is needed.
    `asking` says which records are asked again (`Asking(retry_failed=True)`, `Asking(refresh=True)`, ...).
    A run that is expected to cost more than `budget.confirm_usd` (10 dollars) and has no ceiling (`max_cost=`,
    `max_cost_total=`) needs `yes=True`, or a `confirm` that answers the question it is given with True.
    `sample` asks so many of the images, drawn at random (`seed`) from all sizes alike; a run without it asks the rest.

    Returns a summary; its `exit_code` is 1 where more than `max_failed` rows have no good answer. Raises
    InputError (nothing was sent), or EndpointStoppedError, ResourceError, InterruptedRunError with the
    `summary` of what was kept until then.
    """
    with ExitStack() as stack:
        resolved = stack.enter_context(_endpoint(config, settings, emulator=emulator))
        progress = make_progress(quiet=quiet)
        stack.callback(progress.close)
        job = Job(
            sources=_names(sources), out=Path(out), config=resolved, emulated=emulator, limit=limit,
            max_failed=str(max_failed), asking=asking or Asking(), yes=yes, confirm=confirm,
        )  # fmt: skip
        told = None if quiet else say
        if sample is None:
            return _in_a_loop(lambda: run_job(job, progress.show, say=told))
        show = stack.enter_context(counting(quiet=quiet))
        drawn = Sample(wanted=sample, seed=seed)
        return _in_a_loop(lambda: run_sample(job, drawn, show, progress.show, told))


def dry_run(
    sources: PathLike | Sequence[PathLike],
    *,
    config: PathLike | RunConfig | None = None,
    emulator: bool = False,
    limit: int | None = None,
    **settings: Unpack[Settings],
) -> str:
    """The first request as it would be sent, without the image's base64; nothing is sent, nothing is written."""
    return str(rehearsal(sources, config=config, emulator=emulator, limit=limit, **settings))


def rehearsal(
    sources: PathLike | Sequence[PathLike],
    *,
    config: PathLike | RunConfig | None = None,
    emulator: bool = False,
    limit: int | None = None,
    **settings: Unpack[Settings],
) -> FirstRequest:
    """The same in parts: how many requests, where to, what is known of the image, and the body."""
    resolved = resolve(config, _with_model(settings, config) if emulator else settings)
    return first_request(Job(sources=_names(sources), out=Path(), config=resolved, emulated=emulator, limit=limit))


def check(
    *, config: PathLike | RunConfig | None = None, emulator: bool = False, **settings: Unpack[Settings]
) -> CheckReport:
    """One small paid request: is the endpoint there, the key accepted, the image seen, which limits are advertised?

    Raises EndpointStoppedError in the provider's words, and InputError where the configuration has several endpoints:
    `check_endpoints` is for those.
    """
    with _endpoint(config, settings, emulator=emulator) as resolved:
        several = len(resolved.all_endpoints)
        if several > 1:
            raise InputError(f"the configuration has {several} endpoints: check_endpoints() reports on each")
        (report,) = _in_a_loop(lambda: ask_each(resolved, emulated=emulator))
    if report.error is not None:
        raise EndpointStoppedError(report.error)
    return report


def check_endpoints(
    *, config: PathLike | RunConfig | None = None, emulator: bool = False, **settings: Unpack[Settings]
) -> tuple[CheckReport, ...]:
    """The same for every endpoint of the configuration; one that fails has the reason in its report (`error`)."""
    with _endpoint(config, settings, emulator=emulator) as resolved:
        return _in_a_loop(lambda: ask_each(resolved, emulated=emulator))


def models(
    name: str | None = None, *, config: PathLike | RunConfig | None = None, **settings: Unpack[Settings]
) -> tuple[ModelCard, ...]:
    """What is known of one model or family, or of all: token rules, sizes, limits, prices, each with its source.

    `name` may also be `provider:model`, a preset or a configuration file, as in `estimate`.
    """
    today = datetime.now(UTC).date()
    if name is None:
        return model_cards(resolve(config, settings), today)
    one = _candidate(name, config, settings)
    return model_cards(one.config, today, Asked(one.model, one.name, one.provider, one.anywhere))


def estimate(
    sources: PathLike | Sequence[PathLike] = (),
    *,
    models: str | Sequence[str] = (),
    config: PathLike | RunConfig | Sequence[PathLike] | None = None,
    count: int | None = None,
    sizes: Sequence[str] = (),
    probe: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    output_tokens: int | None = None,
    sample: int | None = None,
    out: PathLike | None = None,
    emulator: bool = False,
    yes: bool = False,
    quiet: bool = True,
    **settings: Unpack[Settings],
) -> Estimate:
    """What a run would take, from the images' headers alone: tokens, dollars and hours, each with a range.

    `models` are compared side by side: names, `provider:model`, presets and configuration files, as a list or joined
    by commas. Without them the configuration's model counts, or a few well-known ones. Instead of `sources`,
    `count` images of `sizes` (`"1600x1200"`) need no image at all. `probe` looks at so many images at random.
    `sample` asks so many of them, which is paid for: tokens, dollars and pace are measured then, with their 95 %
    intervals. The answers are kept in `out`, where a run goes on from them (default: a folder of `estimate-sample`);
    with `emulator` the sample is a rehearsal on this machine. `yes` as in `run`.

    Raises InputError for a command or a source that is wrong, and where no image can be read.
    """
    configs = [config] if config is None or isinstance(config, str | Path | RunConfig) else [*config]
    candidates, notes = _candidates(_split(models), configs, settings)
    job = EstimateJob(
        candidates=candidates, sources=_names(sources), count=count, sizes=[parse_size(size) for size in sizes],
        probe=probe, seed=seed, limit=limit, output_tokens=output_tokens, today=datetime.now(UTC).date(), notes=notes,
    )  # fmt: skip
    if sample is None:
        if emulator or out is not None:
            what = (
                "--emulator rehearses" if emulator else "--out keeps the answers of (--output FILE writes the estimate)"
            )
            raise InputError(f"{what} a paid sample: say how many images it asks with --sample N")
        with counting(quiet=quiet) as show:
            return _in_a_loop(lambda: estimate_job(job, show))
    wanted = Sample(wanted=sample, seed=seed, out=None if out is None else Path(out), yes=yes)
    return _sampled(job, wanted, emulator=emulator, quiet=quiet)


def _sampled(job: EstimateJob, sample: Sample, *, emulator: bool, quiet: bool) -> Estimate:
    progress = make_progress(quiet=quiet)
    with ExitStack() as stack:
        stack.callback(progress.close)
        if emulator:
            sample = replace(sample, emulators=("",) * len(job.candidates))
            check_sample(job, sample)
            sample = replace(sample, emulators=tuple(_emulators(job.candidates, stack)))
        show = stack.enter_context(counting(quiet=quiet))
        return _in_a_loop(lambda: sample_job(job, sample, show, progress.show, None if quiet else say))


def _emulators(candidates: Sequence[Candidate], stack: ExitStack) -> list[str]:
    """For each candidate the address of one that bills by its rules."""
    told = [tuple(emulating(one.config, one.rules_host)) for one in candidates]
    urls = {words: stack.enter_context(child_emulator(words)) for words in dict.fromkeys(told)}
    return [urls[words] for words in told]


def _split(models: str | Sequence[str]) -> list[str]:
    given = models.split(",") if isinstance(models, str) else [*models]
    names = [name.strip() for name in given if name.strip()]
    if given and not names:
        said = ",".join(given)
        raise InputError(f"--models {said!r} names no model; write for example --models gpt-4o,gemini-2.5-flash")
    return names


def _candidates(
    names: list[str], configs: Sequence[PathLike | RunConfig | None], settings: Settings
) -> tuple[list[Candidate], tuple[str, ...]]:
    """What is compared, and what has to be said of it."""
    if len(configs) > 1:
        if names:
            raise InputError("with --models, one -c is the basis of all; name further configurations in --models")
        return _compared([_name_of(one) for one in configs], None, settings)
    base = configs[0] if configs else None
    if names:
        candidates, unused = _compared(names, base, settings)
        return candidates, (*_unsold(candidates), *unused)
    resolved = resolve(base, settings)
    named = base is not None or "base_url" in resolved.endpoint.model_fields_set or bool(resolved.endpoints)
    model = resolved.request.model
    if model or named:
        return [Candidate(name=model or "(the server's model)", config=resolved, anywhere=not named)], ()
    note = f"no model was named: these are the presets {', '.join(DEFAULT_PRESETS)}; --models compares others"
    return [_candidate(name, None, settings) for name in DEFAULT_PRESETS], (note,)


def _name_of(config: PathLike | RunConfig | None) -> str:
    """As `--models` writes it: a `Path` is a file, whatever its name."""
    return str(config.absolute() if isinstance(config, Path) else config)


def _compared(
    names: list[str], base: PathLike | RunConfig | None, settings: Settings
) -> tuple[list[Candidate], tuple[str, ...]]:
    """The candidates of these names. Of several, --model-family is meant for those that no family claims."""
    said = settings.get("model_family")
    if len(names) == 1:
        return [_candidate(names[0], base, settings)], ()
    without: Settings = {**settings, "model_family": None}
    claimed = [_by_its_name(name, _candidate(name, base, without)) for name in names]
    if said is None:
        return claimed, ()
    family_named(said, resolve(base, settings).catalogue.file)
    found = [
        _candidate(name, base, settings) if one.family() is None else one
        for name, one in zip(names, claimed, strict=True)
    ]
    unused = f"--model-family {said} is meant for models that no family claims, and there is none here"
    return found, (unused,) if found == claimed else ()


def _by_its_name(name: str, one: Candidate) -> Candidate:
    """The same without the family that a configuration which all share says of its own model, where the name tells."""
    request, own = one.config.request, one.config.catalogue.file
    if request.model_family is None or is_configuration(name) or family_of(one.model, own) is None:
        return one
    plain = request.model_copy(update={"model_family": None})
    return replace(one, config=one.config.model_copy(update={"request": plain}))


def _candidate(name: str, base: PathLike | RunConfig | None, settings: Settings) -> Candidate:
    if is_configuration(name):
        resolved = resolve(name, settings)
        model = resolved.request.model or "(the server's model)"
        return Candidate(name=f"{model} ({Path(name).stem})", config=resolved)
    provider, model = provider_and_model(name)
    preset, _, at_preset = name.partition(":")
    if provider is None and at_preset and preset in presets():
        there: Settings = {**settings, "model": at_preset, "overrides": _at(preset, settings)}
        return Candidate(name=name, config=resolve(base, there))
    named: Settings = {**settings, "model": model}
    anywhere = base is None and not settings.get("base_url")
    resolved = _without_own_names(resolve(base, named))
    return Candidate(name=name, config=resolved, provider=provider, anywhere=anywhere and not provider)


def _without_own_names(config: RunConfig) -> RunConfig:
    """The same without what its endpoints call another model than the one that is asked for now."""
    endpoint = config.endpoint.model_copy(update={"model": None})
    endpoints = tuple(one.model_copy(update={"model": None}) for one in config.endpoints)
    return config.model_copy(update={"endpoint": endpoint, "endpoints": endpoints})


def _at(preset: str, settings: Settings) -> dict[str, Any]:
    """The settings' own overrides over a preset's endpoint."""
    endpoint = load_config(preset).endpoint
    there = {f"endpoint.{key}": getattr(endpoint, key) for key in endpoint.model_fields_set}
    return {**there, **(settings.get("overrides") or {})}


def _unsold(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """What stands before a colon and sells nothing that is known."""
    found = {seller_in(one.model, one.config.catalogue.file): one.name for one in candidates if one.provider is None}
    return tuple(f"{name}: {seller} is no provider whose prices are known" for seller, name in found.items() if seller)


def status(out: PathLike, *, verify: bool = False) -> OutStatus:
    """What `out` holds and whether a run is at work on it; also while one is.

    While none is, the parts are compared with the ledger by their footers; `verify` reads every part to its end.
    """
    check_ledger(Path(out))
    return read_status(Path(out), verify=verify)


def rebuild(out: PathLike, *, drop_unreadable: bool = False) -> RebuildReport:
    """A new ledger for `out` from its parts alone, where the old one is lost or damaged.

    With `drop_unreadable` a part that cannot be read is moved aside, and its records are asked again.
    """
    return rebuild_ledger(Path(out), now=lambda: datetime.now(UTC), drop_unreadable=drop_unreadable)


def compact(out: PathLike, *, rows_per_part: int | None = None) -> CompactReport:
    """Even parts of `rows_per_part` rows (default: `output.rows_per_part`), and the ledger without its gaps."""
    return compact_out(Path(out), rows_per_part=rows_per_part)


def read(out: PathLike) -> "pd.DataFrame":
    """The rows of an output directory: money as float, the manifest's columns beside ours.

    `pandas.read_parquet(f"{out}/data")` gives the same rows as they are stored. A manifest column that
    bears the name of one of ours is shown as `record.<name>`. Where nothing is answered yet there are no rows.
    """
    import pandas as pd  # noqa: PLC0415 - a tenth of a second, which a run does not need

    folder = Path(out) / "data"
    if not folder.is_dir():
        raise InputError(f"{out}: no vision-batch output here (there is no {folder})")
    has_parts = any(folder.glob("*.parquet"))
    frame = pd.read_parquet(folder) if has_parts else parquet.schema().empty_table().to_pandas()
    frame["cost_usd"] = frame["cost_usd"].map(_as_float, na_action="ignore").astype("float64")
    extra = pd.DataFrame([json.loads(text) if isinstance(text, str) else {} for text in frame.pop("record")])
    extra.index = frame.index
    renamed = extra.rename(columns={name: f"record.{name}" for name in extra.columns if name in frame.columns})
    return frame.join(renamed)


def _as_float(amount: Decimal) -> float:
    return float(amount)


def resolve(config: PathLike | RunConfig | None, settings: Settings) -> RunConfig:
    """Join a configuration with short and dotted settings. Raises InputError for one that is not known."""
    short: dict[str, Any] = {**settings}
    overrides: dict[str, Any] = dict(short.pop("overrides", None) or {})
    unknown = [name for name in short if name not in _KEYS]
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}; known: {', '.join(_KEYS)}, and any key in overrides={{...}}")
    given_as = {key: f"--set {key}" for key in overrides}
    overrides |= {_KEYS[name]: _plain(name, value) for name, value in short.items() if value is not None}
    given_as |= {_KEYS[name]: f"--{name.replace('_', '-')}" for name, value in short.items() if value is not None}
    addresses = overrides.get("endpoint.base_url")
    if isinstance(addresses, list | tuple):
        overrides["endpoint.base_url"] = addresses[0] if addresses else None
        if len(addresses) > 1:
            overrides["endpoints"] = [{"base_url": address} for address in addresses]
            given_as["endpoints"] = "--base-url"
    if overrides.get("endpoint.base_url") is not None:
        overrides.setdefault("endpoints", [])  # an address that is named here takes the place of those of the file
    if isinstance(config, RunConfig):
        found = load_config(None, {**_dotted(config), **overrides}, environ={}, given_as=given_as)
        return marked_as(found, config)
    return load_config(config, overrides, given_as=given_as)


def _plain(name: str, value: Any) -> Any:  # noqa: ANN401 - as settings come
    if name == "max_time" and isinstance(value, str):
        lasts_s = duration_s(value)
        if lasts_s is None:
            raise InputError(f"--max-time {value!r}: no duration; write for example 90s, 45m, 4h or 1h30m")
        return lasts_s
    return str(value) if name in {"max_cost", "max_cost_total"} else value


def _dotted(config: RunConfig) -> dict[str, Any]:
    sections = config.model_dump(exclude_unset=True)
    dotted = {section: keys for section, keys in sections.items() if not isinstance(keys, dict)}
    tables = {section: keys for section, keys in sections.items() if isinstance(keys, dict)}
    return dotted | {f"{section}.{key}": value for section, keys in tables.items() for key, value in keys.items()}


@contextmanager
def _endpoint(config: PathLike | RunConfig | None, settings: Settings, *, emulator: bool) -> Iterator[RunConfig]:
    """The configuration as resolved, and for as long as it is used the emulator, where that is the endpoint."""
    if not emulator:
        yield resolve(config, settings)
        return
    resolved = resolve(config, _with_model(settings, config))  # what is wrong is said before anything is started
    with child_emulator(emulating(resolved, resolved.rules_host)) as url:
        yield emulated(resolved, url, resolved.rules_host)


def _with_model(settings: Settings, config: PathLike | RunConfig | None) -> Settings:
    named = resolve(config, settings).request.model
    return {**settings, "model": named or EMULATED_MODEL}


def _names(sources: PathLike | Sequence[PathLike]) -> list[str]:
    return [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]


def _in_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end, in a thread of its own where a loop is running already (a notebook)."""
    options = {"use_uvloop": find_spec("uvloop") is not None}
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.run(work, backend_options=options)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: anyio.run(work, backend_options=options)).result()
