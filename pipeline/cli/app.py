"""The command line: arguments and exit codes, nothing else."""

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.rich_utils import rich_format_error

from pipeline import api
from pipeline.commands.check import lines as check_lines
from pipeline.commands.models import table
from pipeline.commands.rebuilt import rebuild_lines
from pipeline.commands.status import lines
from pipeline.config.environment import read_environment
from pipeline.config.loading import presets
from pipeline.config.sections import DEFAULT_PROMPT
from pipeline.config.settings_text import written_value
from pipeline.emulator.billing import Billing
from pipeline.emulator.config import EmulatorConfig, parse_models
from pipeline.emulator.error_styles import ErrorStyle
from pipeline.emulator.faults import BadAnswer, Fault, parse_faults
from pipeline.emulator.headers import HeaderStyle, RetryAfter
from pipeline.emulator.limits import CountTokens, LimitKind
from pipeline.emulator.schedule import OutageKind, parse_latency_schedule, parse_outages
from pipeline.emulator.server import run_forever
from pipeline.endpoints.session import version
from pipeline.engine.progress import counted, describe
from pipeline.engine.stats import RunSummary
from pipeline.errors import EndpointStoppedError, InputError, ResourceError, VisionBatchError
from pipeline.estimates.render import files, text
from pipeline.estimates.render.html import WRITERS
from pipeline.formatting import json_text, printable, printable_lines
from pipeline.interrupts import watch_interrupts
from pipeline.redaction.addresses import public_text
from pipeline.redaction.redactor import Redactor, is_secret_name
from pipeline.store.parquet import use_steady_memory
from pipeline.store.rerun import Asking

app = typer.Typer(
    name="vision-batch",
    help="Caption whole image datasets through any OpenAI-compatible vision endpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ENDPOINT, _QUESTION, _IMAGES = "Where it is asked", "What is asked", "Which images"
_AGAIN, _CEILINGS = "What a second run asks again", "Limits and budget"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="A folder, a glob, an image, or a manifest (.csv .tsv .jsonl .parquet .txt; -: JSONL from stdin).",
        show_default=False,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--config",
        metavar="NAME|FILE.toml",
        help=f"A preset ({', '.join(presets())}) or a TOML file.",
        rich_help_panel=_ENDPOINT,
    ),
]
Model = Annotated[str | None, typer.Option("--model", help="The model to ask.", rich_help_panel=_QUESTION)]
ModelFamily = Annotated[
    str | None,
    typer.Option(
        "--model-family",
        metavar="NAME",
        help="What a private model name is; `models` lists the families.",
        rich_help_panel=_QUESTION,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="The endpoint, with or without /v1; default OPENAI_BASE_URL, else OpenAI.",
        rich_help_panel=_ENDPOINT,
    ),
]
BaseUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="The endpoint, with or without /v1; default OPENAI_BASE_URL, else OpenAI. Repeatable, to share.",
        rich_help_panel=_ENDPOINT,
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="NAME",
        help="The environment variable that holds the key; default OPENAI_API_KEY. A .env file here is read too.",
        rich_help_panel=_ENDPOINT,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="What to ask of every image. Default: " + DEFAULT_PROMPT,
        rich_help_panel=_QUESTION,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompt-file", metavar="FILE", help="The prompt, from a file.", rich_help_panel=_QUESTION),
]
System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="A system message.", rich_help_panel=_QUESTION)
]
Detail = Annotated[
    str | None,
    typer.Option(
        "--detail", metavar="low|high|auto|original", help="How closely the model looks.", rich_help_panel=_QUESTION
    ),
]
MaxImageTokens = Annotated[
    int | None,
    typer.Option(
        "--max-image-tokens",
        metavar="N",
        min=1,
        help="Send images smaller, so that each has N at most.",
        rich_help_panel=_QUESTION,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", metavar="N", help="The longest answer; default 300.", rich_help_panel=_QUESTION),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="X",
        help="How freely the model chooses its words; default its own.",
        rich_help_panel=_QUESTION,
    ),
]
Concurrency = Annotated[
    str | None,
    typer.Option(
        "--concurrency",
        metavar="auto|N",
        help="Requests in flight; auto (default) finds the best number.",
        rich_help_panel=_CEILINGS,
    ),
]
Rpm = Annotated[
    float | None,
    typer.Option(
        "--rpm",
        metavar="N",
        help="Requests a minute; what the endpoint's headers tell tightens it.",
        rich_help_panel=_CEILINGS,
    ),
]
Tpm = Annotated[
    float | None, typer.Option("--tpm", metavar="N", help="Tokens a minute, likewise.", rich_help_panel=_CEILINGS)
]
MaxCost = Annotated[
    str | None,
    typer.Option(
        "--max-cost",
        metavar="USD",
        help="Stop before this run, with its resumes, costs more.",
        rich_help_panel=_CEILINGS,
    ),
]
MaxCostTotal = Annotated[
    str | None,
    typer.Option(
        "--max-cost-total", metavar="USD", help="The same for all runs on OUT together.", rich_help_panel=_CEILINGS
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Agree to a run without a ceiling that costs more than budget.confirm_usd (10 dollars).",
        rich_help_panel=_CEILINGS,
    ),
]
MaxTime = Annotated[
    str | None, typer.Option("--max-time", metavar="4h", help="Stop after so long.", rich_help_panel=_CEILINGS)
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Only the first N images of the source.", rich_help_panel=_IMAGES),
]
MaxFailed = Annotated[
    str,
    typer.Option(
        "--max-failed",
        metavar="N|P%",
        help="Rows without an answer that are tolerated before exit code 1.",
        rich_help_panel=_CEILINGS,
    ),
]
SkipBadRows = Annotated[
    bool | None,
    typer.Option(
        "--skip-bad-rows",
        help="Leave out manifest rows that cannot be read.",
        show_default=False,
        rich_help_panel=_IMAGES,
    ),
]
Emulator = Annotated[
    bool,
    typer.Option(
        "--emulator",
        help="Rehearse on an emulated endpoint on this machine: no key, no cost, measured captions.",
        rich_help_panel=_ENDPOINT,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Any configuration key, e.g. images.quality=90. Repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="The same as JSON, on standard output.")]
QuietFlag = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary; errors only.")]


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"vision-batch {version()}")
        raise typer.Exit


@app.callback()
def vision_batch(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """What stands before every command."""


@app.command()
def run(
    sources: Sources,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="Where answers are kept. Run again on it: only what is missing is asked.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    model: Model = None,
    model_family: ModelFamily = None,
    base_url: BaseUrls = None,
    api_key_env: ApiKeyEnv = None,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    system: System = None,
    detail: Detail = None,
    max_image_tokens: MaxImageTokens = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    concurrency: Concurrency = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_cost: MaxCost = None,
    max_cost_total: MaxCostTotal = None,
    max_time: MaxTime = None,
    yes: Yes = False,
    limit: Limit = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="N",
            help="Only N images, from all sizes alike; later runs ask the rest.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Of the sample.", rich_help_panel=_IMAGES)] = 0,
    max_failed: MaxFailed = "0",
    skip_bad_rows: SkipBadRows = None,
    on_duplicate_id: Annotated[
        str | None,
        typer.Option(
            "--on-duplicate-id", metavar="error|first", help="An id that stands twice.", rich_help_panel=_IMAGES
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Ask again about rows without an answer: failed, invalid, or truncated before any text.",
            rich_help_panel=_AGAIN,
        ),
    ] = False,
    retry_kind: Annotated[
        str | None,
        typer.Option(
            "--retry-kind",
            metavar="KIND,...",
            help="Ask again about rows with one of these values of error_kind.",
            rich_help_panel=_AGAIN,
        ),
    ] = None,
    retry_status: Annotated[
        str | None,
        typer.Option(
            "--retry-status",
            metavar="STATUS,...",
            help="Ask again about rows with one of these values of status, e.g. refused,truncated.",
            rich_help_panel=_AGAIN,
        ),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask everything again.", rich_help_panel=_AGAIN)] = False,
    refresh_changed: Annotated[
        bool,
        typer.Option(
            "--refresh-changed", help="Ask again about files whose size or time has changed.", rich_help_panel=_AGAIN
        ),
    ] = False,
    on_config_change: Annotated[
        str,
        typer.Option(
            "--on-config-change",
            metavar="refuse|keep|refresh",
            help="Where OUT has other settings' answers.",
            rich_help_panel=_AGAIN,
        ),
    ] = "refuse",
    no_dedup: Annotated[
        bool, typer.Option("--no-dedup", help="Ask every image, equal ones too.", rich_help_panel=_IMAGES)
    ] = False,
    grace_s: Annotated[
        float | None,
        typer.Option(
            "--grace-s", metavar="S", help="How long answers may come home after Ctrl-C.", rich_help_panel=_CEILINGS
        ),
    ] = None,
    emulator: Emulator = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first request and what it may cost; send and write nothing.")
    ] = False,
    settings: Settings = None,
    as_json: AsJson = False,
    quiet: QuietFlag = False,
) -> None:
    """Ask about every image of the sources; answers, tokens and cost go to OUT/data as Parquet."""
    chosen: dict[str, Any] = {
        "config": config,
        "emulator": emulator,
        "model": model,
        "model_family": model_family,
        "base_url": base_url,
        "api_key_env": api_key_env,
        "prompt": _prompt(prompt, prompt_file),
        "system": system,
        "detail": detail,
        "max_image_tokens": max_image_tokens,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "concurrency": _concurrency(concurrency),
        "rpm": rpm,
        "tpm": tpm,
        "max_cost": max_cost,
        "max_cost_total": max_cost_total,
        "max_time": max_time,
        "skip_bad_rows": skip_bad_rows,
        "on_duplicate_id": on_duplicate_id,
        "dedup": False if no_dedup else None,
        "grace_s": grace_s,
        "overrides": _overrides(settings),
    }
    most = min((n for n in (limit, sample) if n is not None), default=None)
    if dry_run:
        first = api.rehearsal(sources, limit=most, **chosen)
        _say(json_text(first.as_dict()) if as_json else str(first))
        return
    if out is None:
        raise InputError("name an output directory with -o OUT")
    asking = Asking.parse(
        retry_failed=retry_failed,
        retry_kind=retry_kind,
        retry_status=retry_status,
        refresh=refresh,
        refresh_changed=refresh_changed,
        on_config_change=on_config_change,
    )
    is_seen = not quiet and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)
    summary = api.run(
        sources, out=out, limit=limit, sample=sample, seed=seed, max_failed=max_failed, asking=asking, quiet=quiet,
        yes=yes, confirm=_confirm if is_seen else None, **chosen,
    )  # fmt: skip
    _tell(summary, as_json=as_json, quiet=quiet)
    raise typer.Exit(summary.exit_code)


@app.command()
def check(
    config: Config = None,
    model: Model = None,
    model_family: ModelFamily = None,
    base_url: BaseUrls = None,
    api_key_env: ApiKeyEnv = None,
    emulator: Emulator = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """One small request an endpoint: reachable, key accepted, model sees images; predicted against billed tokens."""
    reports = api.check_endpoints(
        config=config, emulator=emulator, model=model, model_family=model_family, base_url=base_url,
        api_key_env=api_key_env, overrides=_overrides(settings),
    )  # fmt: skip
    failed = [report for report in reports if report.error is not None]
    if len(reports) == 1 and failed:
        raise EndpointStoppedError(failed[0].error or "")
    if as_json:
        plain = [report.as_dict() for report in reports]
        _say(json_text(plain if len(plain) > 1 else plain[0]))
    else:
        _say(printable_lines(check_lines(reports, text.terminal_columns())))
    if failed:
        raise EndpointStoppedError(f"{len(failed)} of {len(reports)} endpoints failed: see above")


@app.command()
def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A model, a family, provider:model or a preset; default: all families."),
    ] = None,
    config: Config = None,
    model_family: ModelFamily = None,
    base_url: BaseUrl = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """What is known of a model: token rule, sizes, limits, price, traps, each with its source and date."""
    cards = api.models(
        name, config=config, model_family=model_family, base_url=base_url, overrides=_overrides(settings)
    )
    if as_json:
        plain = [card.as_dict() for card in cards]
        _say(json_text(plain if name is None else plain[0]))
        return
    _say(printable_lines(table(cards) if name is None else cards[0].lines()))


@app.command()
def estimate(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="As of run; none with --count.", show_default=False),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "-c", "--config", metavar="NAME|FILE.toml", help="A preset or a TOML file. Repeatable, to compare."
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models", metavar="A,B,...", help="Compare models, provider:model, presets and configuration files."
        ),
    ] = None,
    model: Model = None,
    model_family: ModelFamily = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    system: System = None,
    detail: Detail = None,
    max_image_tokens: MaxImageTokens = None,
    max_tokens: MaxTokens = None,
    concurrency: Concurrency = None,
    max_cost: MaxCost = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", metavar="N", min=1, help="So many images, without any source.", rich_help_panel=_IMAGES
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            metavar="WxH",
            help="Of these; repeatable, then spread evenly over the sizes.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    probe: Annotated[
        int | None,
        typer.Option(
            "--probe",
            metavar="N",
            help="Look at N images at random; ranges are intervals then.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="N",
            help="Ask N images, which is paid for: tokens and cost as measured.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="Of the probe or the sample.", rich_help_panel=_IMAGES)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="OUT", help="Keep the sample's answers for a run. Default: estimate-sample/..."
        ),
    ] = None,
    emulator: Emulator = False,
    yes: Yes = False,
    limit: Limit = None,
    output_tokens: Annotated[
        int | None,
        typer.Option("--output-tokens", metavar="N", min=0, help="Tokens of an answer; default: 100 are assumed."),
    ] = None,
    rpm: Annotated[
        float | None,
        typer.Option(
            "--rpm",
            metavar="N",
            help="Requests a minute that you are granted: how long then?",
            rich_help_panel=_CEILINGS,
        ),
    ] = None,
    tpm: Annotated[
        float | None, typer.Option("--tpm", metavar="N", help="Tokens a minute, likewise.", rich_help_panel=_CEILINGS)
    ] = None,
    skip_bad_rows: SkipBadRows = None,
    settings: Settings = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it as .csv, .md, .html or .json too.")
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Tokens, cost and time before paying, from image headers alone; only --sample needs a key and sends anything."""
    if output is not None:
        files.check_output(output, WRITERS)
    asked: dict[str, Any] = {"concurrency": _concurrency(concurrency), "models": () if models is None else models}
    found = api.estimate(
        sources or (), config=config or None, count=count, sizes=size or (), probe=probe,
        sample=sample, out=out, emulator=emulator, seed=seed, limit=limit, output_tokens=output_tokens,
        quiet=quiet or as_json, model=model, model_family=model_family, base_url=base_url, api_key_env=api_key_env,
        max_cost=max_cost, yes=yes, **asked,
        prompt=_prompt(prompt, prompt_file), system=system, detail=detail, max_image_tokens=max_image_tokens,
        max_tokens=max_tokens, rpm=rpm, tpm=tpm, skip_bad_rows=skip_bad_rows, overrides=_overrides(settings),
    )  # fmt: skip
    if output is not None:
        files.write(found, output, WRITERS)
    _say(files.as_json(found) if as_json else text.text(found, text.terminal_columns()))


@app.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="An output directory, also while a run goes on.")],
    check_: Annotated[
        bool,
        typer.Option("--check", help="Exit code 1 while any record has no answer, 5 where data/ is damaged."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read every part and verify its checksums; exit code 5 where one is damaged."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What is done, failed and spent; predicted against billed tokens; whether data/ is as it was written."""
    found = api.status(out, verify=verify)
    _say(json_text(found.as_dict()) if as_json else printable_lines(lines(found)))
    is_damaged = (check_ or verify) and found.damage
    raise typer.Exit(ResourceError.exit_code if is_damaged else int(check_ and found.bad > 0))


@app.command()
def rebuild(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="An output directory whose ledger is lost or damaged.")],
    drop_unreadable: Annotated[
        bool,
        typer.Option(
            "--drop-unreadable", help="Keep what can be read of damaged parts; their other records are asked again."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """A new ledger from the parts, and from what can still be read of the old one, which is kept aside."""
    report = api.rebuild(out, drop_unreadable=drop_unreadable)
    if as_json:
        _say(json_text(report.as_dict()))
        return
    _say(printable_lines(rebuild_lines(out, report)))


@app.command()
def compact(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="An output directory that no run is at work on.")],
    rows_per_part: Annotated[
        int | None,
        typer.Option("--rows-per-part", metavar="N", min=1, help="Default: output.rows_per_part of the last run."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Even parts, and the ledger without the gaps in it."""
    report = api.compact(out, rows_per_part=rows_per_part)
    if as_json:
        _say(json_text(report.as_dict()))
        return
    _say(
        f"{printable(str(out))}: {counted(report.records, 'record')} in {counted(report.parts_after, 'part')} "
        f"(before: {report.parts_before:,}); "
        f"data {report.bytes_before:,} -> {report.bytes_after:,} bytes, "
        f"ledger {report.ledger_bytes_before:,} -> {report.ledger_bytes_after:,} bytes"
    )


_LIMITS, _SPEED = "Limits and what is told of them", "Speed"
_TROUBLE, _MODEL = "Trouble on demand", "What is served"


@app.command()
def emulate(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")] = 8010,
    models: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="The only models served; default any.", rich_help_panel=_MODEL),
    ] = None,
    model_family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="By whose rule all are billed; default by name.", rich_help_panel=_MODEL),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Families of your own, which count first.", rich_help_panel=_MODEL),
    ] = None,
    rules_of: Annotated[
        str, typer.Option(metavar="HOST", help="Bill as this host does, where it has rules.", rich_help_panel=_MODEL)
    ] = "",
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The only key accepted; default any.", rich_help_panel=_MODEL)
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Read image headers only.", rich_help_panel=_MODEL)] = False,
    rpm: Annotated[
        float | None, typer.Option(metavar="N", help="Requests granted a minute.", rich_help_panel=_LIMITS)
    ] = None,
    tpm: Annotated[
        float | None, typer.Option(metavar="N", help="Tokens granted a minute.", rich_help_panel=_LIMITS)
    ] = None,
    limit_kind: Annotated[
        LimitKind,
        typer.Option(
            help="bucket: evenly refilled; fixed: anew each full minute; sliding: any 60 s.", rich_help_panel=_LIMITS
        ),
    ] = LimitKind.BUCKET,
    burst: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Requests that the bucket grants at once, default a tenth of --rpm; of tokens the same share.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    count_tokens: Annotated[
        CountTokens,
        typer.Option(help="What counts: prompt + max_tokens at admission, or what is billed.", rich_help_panel=_LIMITS),
    ] = CountTokens.ESTIMATE,
    header_style: Annotated[
        HeaderStyle, typer.Option(help="Whose headers tell the limits.", rich_help_panel=_LIMITS)
    ] = HeaderStyle.OPENAI,
    retry_after: Annotated[
        RetryAfter, typer.Option(help="How a 429 says when to come again.", rich_help_panel=_LIMITS)
    ] = RetryAfter.BOTH,
    latency_ms: Annotated[float, typer.Option(help="How long an answer takes.", rich_help_panel=_SPEED)] = 0.0,
    jitter_ms: Annotated[
        float, typer.Option(help="And up to how much longer, at random.", rich_help_panel=_SPEED)
    ] = 0.0,
    latency_schedule: Annotated[
        str | None,
        typer.Option(
            metavar="S:MS,...", help="Another latency from a second on: 0:200,60:1000.", rich_help_panel=_SPEED
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(metavar="N", help="So many are worked on at a time, the others queue.", rich_help_panel=_SPEED),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="So many wait for one, more are refused (429); default all.", rich_help_panel=_SPEED
        ),
    ] = None,
    thrash: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="With F > N in flight work takes 1 + X (F - N) / N times as long.",
            rich_help_panel=_SPEED,
        ),
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=RATE", help=f"Repeatable. Names: {', '.join(Fault)}.", rich_help_panel=_TROUBLE),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of faults and jitter.", rich_help_panel=_TROUBLE)] = 0,
    stall_s: Annotated[
        float, typer.Option(metavar="S", help="How long the fault stall hangs.", rich_help_panel=_TROUBLE)
    ] = 3600.0,
    goes_bad_after: Annotated[
        int | None,
        typer.Option(metavar="N", help="Every answer after the first N is bad.", rich_help_panel=_TROUBLE),
    ] = None,
    goes_bad: Annotated[BadAnswer, typer.Option(help="How bad.", rich_help_panel=_TROUBLE)] = BadAnswer.EMPTY,
    outage: Annotated[
        list[str] | None,
        typer.Option(metavar="START+LENGTH", help="Seconds since the start. Repeatable.", rich_help_panel=_TROUBLE),
    ] = None,
    outage_kind: Annotated[
        OutageKind, typer.Option(help="What an outage is like.", rich_help_panel=_TROUBLE)
    ] = OutageKind.UNAVAILABLE,
    error_style: Annotated[
        ErrorStyle, typer.Option(help="Whose errors are shown.", rich_help_panel=_TROUBLE)
    ] = ErrorStyle.OPENAI,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    """An OpenAI-compatible endpoint on this machine that measures pixels; it is no model."""
    emulated = EmulatorConfig(
        rpm=rpm, tpm=tpm, limit_kind=limit_kind, burst=burst, count_tokens=count_tokens, header_style=header_style,
        retry_after=retry_after, error_style=error_style, latency_ms=latency_ms, jitter_ms=jitter_ms,
        latency_schedule=parse_latency_schedule(latency_schedule), slots=slots, queue=queue,
        thrash=thrash, seed=seed,
        faults=parse_faults(fault or []), stall_s=stall_s, goes_bad_after=goes_bad_after, goes_bad=goes_bad,
        outages=parse_outages(outage or []), outage_kind=outage_kind, models=parse_models(models), api_key=api_key,
        billing=Billing(model_family, catalogue, rules_of), decode=not fast,
    )  # fmt: skip
    run_forever(emulated, host, port, announce=typer.echo, until_eof=until_eof)


def main() -> NoReturn:
    """Every way out of the program: the exit codes of docs/usage.md, and no traceback for a mistake."""
    _open_streams()
    use_steady_memory()
    watch_interrupts()
    _leave(exit_code(sys.argv[1:]))


INTERRUPTED = 128
"""Exit codes beyond it are this and the number of a signal."""


def _leave(code: int) -> NoReturn:
    """End the process. After a signal no thread is waited for: one may stand in a decoder for minutes."""
    if code > INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, full, or none
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _open_streams() -> None:
    """A daemon may start us without standard streams: what is opened next must not take their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding ends no run


def exit_code(arguments: Sequence[str]) -> int:
    """What a command line comes to: one line for a mistake, and never a traceback."""
    try:
        ended = app([*arguments], standalone_mode=False)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except VisionBatchError as error:
        if isinstance(error.summary, RunSummary):
            _tell(error.summary, as_json="--json" in arguments, quiet=not {"-q", "--quiet"}.isdisjoint(arguments))
        _complain(*error.args)
        return error.exit_code
    except typer.Abort:
        _complain("aborted")
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort: a user sees one line, we get the details
        return _usage(error) if isinstance(error, _USAGE_ERROR) else _bug()
    return ended if isinstance(ended, int) else 0


_USAGE_ERROR = typer.BadParameter.__bases__[0]
"""What typer raises for arguments that it does not know; it has no public name for it."""


def _usage(error: Any) -> int:  # noqa: ANN401 - as above
    error.message = printable(error.message)
    rich_format_error(error)
    return int(error.exit_code)


def _bug() -> int:
    with tempfile.NamedTemporaryFile("w", prefix="vision-batch-bug-", suffix=".txt", delete=False) as file:
        file.write(_secrets_of_environment().text(public_text(traceback.format_exc())))
    _complain(f"this is a bug of ours; what is kept stays kept. Details: {file.name}")
    return 70


def _secrets_of_environment() -> Redactor:
    """What the details of a bug must not hold, as far as it is known where nothing else is."""
    with suppress(InputError):
        both = read_environment()
        values = [*both.process.items(), *both.dotenv.items()]
        return Redactor(value for name, value in values if is_secret_name(name))
    return Redactor()


def _complain(*lines: object) -> None:
    """On standard error, a line each."""
    typer.echo(f"vision-batch: {printable_lines(map(str, lines))}", err=True)


def _say(text: str, otherwise: str = "") -> None:
    """On standard output; each line has been through `printable`. Raises ResourceError where it is full."""
    try:
        typer.echo(text)
    except BrokenPipeError:  # nobody reads on; what was asked for is done all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        raise ResourceError(f"standard output: {error.strerror}{otherwise}") from error


def _tell(summary: RunSummary, *, as_json: bool, quiet: bool) -> None:
    text = json_text(summary.as_dict()) if as_json else describe(summary)
    if quiet and not as_json:
        return
    _say(text, "; the run itself is complete and kept")


def _confirm(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # standard input has ended
        return False


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None: it was closed before we began


def _concurrency(text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--concurrency {text!r}: auto, or a number from 1 on")
    return int(text)


def _prompt(text: str | None, file: Path | None) -> str | None:
    if file is None:
        return text
    if text is not None:
        raise InputError("--prompt and --prompt-file exclude each other")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompt-file {file}: {getattr(error, 'strerror', None) or error}") from None


def _overrides(settings: list[str] | None) -> dict[str, Any]:
    """`section.key=value`, read as `written_value` says."""
    overrides: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or "." not in key:
            # Not what follows the sign: it may be a key.
            raise InputError(f"--set {key!r}: write section.key=value, for example images.quality=90")
        overrides[key.strip()] = written_value(key.strip(), value)
    return overrides
