"""`vision-batch estimate`."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, cast

import click

from pipeline.api import estimates
from pipeline.cli.next_steps import after_estimate
from pipeline.cli.options import (
    EMULATOR,
    IMAGES,
    JSON,
    LIMIT,
    PANELS,
    PROMPT_FILE,
    QUIET,
    SET,
    WITH_SAMPLE,
    YES,
    Option,
    command,
    setting_options,
    settings_of,
)
from pipeline.cli.output import note, show, show_lines
from pipeline.cli.references import with_flags
from pipeline.estimates.figures import Estimate
from pipeline.estimates.render import files, text
from pipeline.estimates.render.html import WRITERS

SAMPLED = (
    "api_key_env", "concurrency", "dedup", "grace_s", "max_cost", "max_cost_total", "max_time", "temperature",
)  # fmt: skip
"""Settings that an estimate from headers alone does not read."""


def _with_sample(option: Option) -> Option:
    """The option under the heading of those that count only with `--sample`."""
    moved = copy(option)
    moved.panel = WITH_SAMPLE
    return moved


OPTIONS = (
    click.Argument(["sources"], nargs=-1, metavar="[SOURCE]...", help="As for `run`. Leave it out with --count."),
    Option(
        "--models",
        metavar="A,B,...",
        help="Compare models, provider:model, presets and configuration files.",
    ),
    Option(
        "--output-tokens",
        metavar="N",
        type=click.IntRange(0),
        help="Tokens of an answer. [default: 100, an assumption]",
    ),
    Option(
        "--output",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Also write the estimate as .csv, .md, .html or .json.",
    ),
    Option(
        "-o",
        "--out",
        metavar="OUT",
        type=click.Path(),
        panel=WITH_SAMPLE,
        help="Keep the sample's answers here; a run with the same OUT uses them. [default: estimate-sample/]",
    ),
    SET,
    JSON,
    QUIET,
    Option(
        "-c",
        "--config",
        metavar="NAME|FILE.toml",
        multiple=True,
        panel=PANELS["endpoint"],
        help="A preset or a TOML file. Repeat it to compare.",
    ),
    _with_sample(EMULATOR),
    *setting_options(only_with_sample=SAMPLED),
    PROMPT_FILE,
    _with_sample(YES),
    LIMIT,
    Option("--count", metavar="N", type=click.IntRange(1), panel=IMAGES, help="N images, without any source."),
    Option(
        "sizes",
        "--size",
        metavar="WxH",
        multiple=True,
        panel=IMAGES,
        help="The size of these images. Repeat it to spread them evenly over several sizes.",
    ),
    Option(
        "--probe",
        metavar="N",
        type=int,
        panel=IMAGES,
        help="Read N random images. The ranges become confidence intervals.",
    ),
    Option(
        "--sample",
        metavar="N",
        type=int,
        panel=IMAGES,
        help="Ask N images, which is paid for: tokens and cost are measured.",
    ),
    Option(
        "--seed",
        metavar="S",
        type=int,
        default=0,
        show_default=True,
        panel=IMAGES,
        help="Draw another probe or sample.",
    ),
)


@command("estimate", OPTIONS)
def estimate(*, sources: tuple[str, ...], output: Path | None, as_json: bool, quiet: bool, **given: Any) -> int:  # noqa: ANN401 - of click
    """Tokens, cost and time before paying, from image headers alone. Only --sample sends requests and needs a key."""
    if output is not None:
        files.check_output(output, WRITERS)
    is_quiet = quiet or as_json
    overrides = given["overrides"]
    settings = settings_of(given)
    options = {**given, **settings, "quiet": is_quiet, "on_note": None if is_quiet else note}
    options |= {"models": given["models"] or (), "config": [*given["config"]] or None}
    found = estimates.estimate(sources, **cast("estimates.EstimateOptions", options))
    if output is not None:
        files.write(found, output, {suffix: _writer(suffix, write) for suffix, write in WRITERS.items()})
    if as_json:
        show(files.as_json(found))
        return 0
    show_lines(*text.text(found, text.terminal_columns()).split("\n"))
    is_one = len(found.models) == 1 and len(given["config"]) <= 1
    if sources and is_one and not quiet:
        preset, has_model = next(iter(given["config"]), None), bool(found.models[0].model)
        show_lines(after_estimate(sources, settings, preset, overrides, has_model=has_model))
    return 0


def _writer(suffix: str, write: Callable[[Estimate], str]) -> Callable[[Estimate], str]:
    """A file for people has flags, as the terminal; JSON is for programs and has keys, a page for managers neither."""
    return write if suffix in {".json", ".html"} else lambda found: with_flags(write(found))
