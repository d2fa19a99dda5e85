"""`vision-batch emulate`."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import click

from pipeline.cli.next_steps import named
from pipeline.cli.options import Option, command
from pipeline.emulator.billing import Billing
from pipeline.emulator.config import EmulatorConfig, parse_models
from pipeline.emulator.error_styles import ErrorStyle
from pipeline.emulator.faults import BadAnswer, Fault, parse_faults
from pipeline.emulator.headers import HeaderStyle, RetryAfter
from pipeline.emulator.limits import CountTokens, LimitKind
from pipeline.emulator.schedule import OutageKind, parse_latency_schedule, parse_outages
from pipeline.emulator.server import run_forever

_LIMITS, _SPEED, _FAULTS, _MODEL = "Limits and headers", "Speed", "Faults", "Models"
_DEFAULTS: Final = EmulatorConfig()


def _option(name: str, panel: str, help: str, metavar: str = "N", type: type = str) -> Option:  # noqa: A002 - as click names them
    """An option that sets the field of `EmulatorConfig` of its name, whose default it takes."""
    flag, default = f"--{name.replace('_', '-')}", getattr(_DEFAULTS, name, None)
    kind = click.Choice([one.value for one in type]) if issubclass(type, StrEnum) else type
    default = str(default) if isinstance(default, StrEnum) else default
    default = default if isinstance(default, str | int | float) else None
    shown = None if issubclass(type, StrEnum) else metavar
    return Option(
        name, flag, panel=panel, help=help, metavar=shown, type=kind, default=default, show_default=default is not None
    )


def _repeated(name: str, panel: str, help: str, metavar: str) -> Option:  # noqa: A002 - as above
    return Option(name, f"--{name}", panel=panel, help=help, metavar=metavar, multiple=True)


OPTIONS = (
    Option("--host", default="127.0.0.1", show_default=True, help="The address to listen on."),
    Option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8010,
        show_default=True,
        help="The port to listen on; 0 takes a free one.",
    ),
    _option("models", _MODEL, "The only models served. [default: any]", "A,B"),
    _option("model_family", _MODEL, "The family whose rule bills all models. [default: by name]", "NAME"),
    _option("catalogue", _MODEL, "A file of model families, which replace those of the package.", "FILE", Path),
    _option("rules_of", _MODEL, "Bill by the rules of this host, where it has its own.", "HOST"),
    _option("usd_per_page", _MODEL, "What OCR says that a page costs. [default: it does not]", "USD", float),
    _option("api_key", _MODEL, "The only key that is accepted. [default: any]", "KEY"),
    Option("--fast", is_flag=True, panel=_MODEL, help="Read the headers of images only."),
    Option("--fetch-urls", is_flag=True, panel=_MODEL, help="Fetch images that requests name by address."),
    _option("rpm", _LIMITS, "Requests granted per minute.", type=float),
    _option("tpm", _LIMITS, "Tokens granted per minute.", type=float),
    _option(
        "limit_kind",
        _LIMITS,
        "bucket refills evenly, fixed starts anew at each full minute, sliding counts any 60 s.",
        type=LimitKind,
    ),
    _option(
        "burst",
        _LIMITS,
        "Requests that the bucket grants at once, and the same share of tokens. [default: a tenth of --rpm]",
        type=int,
    ),
    _option("count_tokens", _LIMITS, "Count prompt + max_tokens at admission, or the bill.", type=CountTokens),
    _option("header_style", _LIMITS, "The provider whose headers advertise the limits.", type=HeaderStyle),
    _option("retry_after", _LIMITS, "How a 429 states the wait.", type=RetryAfter),
    _option("latency_ms", _SPEED, "The time of one answer.", "MS", type=float),
    _option("jitter_ms", _SPEED, "The most that is added to it at random.", "MS", type=float),
    _option("latency_schedule", _SPEED, "Other latencies from a second on: 0:200,60:1000.", "S:MS,..."),
    _option("slots", _SPEED, "Requests worked on at a time; others queue.", type=int),
    _option("queue", _SPEED, "Requests that may queue; more get a 429. [default: all]", type=int),
    _option(
        "thrash", _SPEED, "With F > N requests in flight, work takes 1 + X (F - N) / N times as long.", "X", type=float
    ),
    _repeated(
        "fault", _FAULTS, f"The share of requests with a fault. Repeatable. Names: {', '.join(Fault)}.", "NAME=RATE"
    ),
    _option("seed", _FAULTS, "Draw other faults and jitter.", "S", type=int),
    _option("stall_s", _FAULTS, "How long the fault stall hangs.", "S", type=float),
    _option("goes_bad_after", _FAULTS, "Every answer after the first N is bad.", type=int),
    _option("goes_bad", _FAULTS, "The kind of bad answer.", type=BadAnswer),
    _option("tier_shortage", _FAULTS, "The share of requests at the tier flex without capacity.", "RATE", float),
    _repeated("outage", _FAULTS, "An outage, in seconds since the start. Repeatable.", "START+LENGTH"),
    _option("outage_kind", _FAULTS, "What the endpoint does in an outage.", type=OutageKind),
    _option("error_style", _FAULTS, "The provider whose errors are imitated.", type=ErrorStyle),
    Option("--until-eof", is_flag=True, hidden=True),
)
_PARSED: Mapping[str, Callable[[Any], object]] = {
    "limit_kind": LimitKind,
    "count_tokens": CountTokens,
    "header_style": HeaderStyle,
    "retry_after": RetryAfter,
    "goes_bad": BadAnswer,
    "outage_kind": OutageKind,
    "error_style": ErrorStyle,
    "latency_schedule": parse_latency_schedule,
    "models": parse_models,
}


@command("emulate", OPTIONS)
def emulate(*, host: str, port: int, until_eof: bool, **given: Any) -> int:  # noqa: ANN401 - of click
    """Serve an OpenAI-compatible endpoint on this machine that measures pixels. It is no model."""
    billing = Billing(given.pop("model_family"), given.pop("catalogue"), given.pop("rules_of") or "")
    changes: dict[str, Any] = {
        "faults": parse_faults(given.pop("fault")),
        "outages": parse_outages(given.pop("outage")),
        "decode": not given.pop("fast"),
        "billing": billing,
    }
    changes |= {name: _PARSED[name](value) if name in _PARSED else value for name, value in given.items()}
    run_forever(EmulatorConfig(**changes), host, port, announce=_announce, until_eof=until_eof)
    return 0


def _announce(line: str) -> None:
    """The address, and the command that asks it."""
    url, model = line.rpartition(" ")[2], "gpt-4o"
    click.echo(line)
    click.echo(f"next: {named('run', 'FOLDER', '-o', 'rehearsal', '--base-url', url, '--model', model)}")
