"""The settings of pace and money: `[limits]` and `[budget]`."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.sections import Section
from pipeline.config.setting import Setting
from pipeline.config.types import Concurrency, Count, Dollars, Duration, PerMinute, PositiveDollars, Seconds


class LimitsConfig(Section):
    """How fast requests are sent, and when a run gives up."""

    divide: Annotated[
        bool,
        Setting(
            "Divide limits and budgets by the N of `source.shard`; what is set is that of all shards together.",
            keyword="divide_limits",
            off_help="Give each shard of `source.shard` the limits and budgets whole, not a share of them.",
        ),
    ] = True
    concurrency: Annotated[
        Concurrency,
        Setting("Requests in flight; auto finds the best number.", keyword="concurrency", metavar="auto|N"),
    ] = "auto"
    rpm: Annotated[
        PerMinute | None,
        Setting("Requests per minute; lower limits that the endpoint advertises win.", keyword="rpm", metavar="N"),
    ] = None
    tpm: Annotated[
        PerMinute | None,
        Setting("Tokens per minute; lower limits that the endpoint advertises win.", keyword="tpm", metavar="N"),
    ] = None
    count_tokens: Annotated[
        Literal["auto", "requested", "billed"],
        Setting("What counts as tokens: prompt and `request.max_tokens`, or the bill; `auto` asks the catalogue."),
    ] = "auto"
    straggler_s: Annotated[Seconds, Setting("The earliest time at which a slow request is sent again, in seconds.")] = (
        10.0
    )
    max_wait_s: Annotated[
        Seconds, Setting("The longest wait that an endpoint may ask for, in seconds; a longer one ends the run.")
    ] = 3600.0
    max_error_rate: Annotated[
        float,
        Field(gt=0, le=1),
        Setting("Stop when more than this share, 0 to 1, of the last 200 records fail for one reason."),
    ] = 0.5
    outage_s: Annotated[Seconds, Setting("How long a run waits for an endpoint that fails, in seconds.")] = 1800.0
    first_contact_s: Annotated[
        Seconds, Setting("How long a run tries an endpoint that has not answered it yet, in seconds; then it stops.")
    ] = 10.0
    grace_s: Annotated[
        float,
        Field(ge=0, le=1e9),
        Setting("How long requests in flight may finish after Ctrl-C, in seconds.", keyword="grace_s", metavar="S"),
    ] = 60.0


class BudgetConfig(Section):
    """What a run may spend. A limit that is reached ends the run with exit code 3; the same command resumes it."""

    max_cost_usd: Annotated[
        PositiveDollars | None,
        Setting(
            "Stops before the run costs more, resumed runs included; granted again the day (UTC) after.",
            keyword="max_cost",
            metavar="USD",
        ),
    ] = None
    max_cost_total_usd: Annotated[
        PositiveDollars | None,
        Setting("Stop before all runs on OUT together would cost more.", keyword="max_cost_total", metavar="USD"),
    ] = None
    confirm_usd: Annotated[
        Dollars, Setting("The expected cost above which a run without a budget asks for confirmation, in dollars.")
    ] = Decimal(10)
    max_requests: Annotated[
        Count | None,
        Setting("Stop before this run would send more requests than this.", keyword="max_requests", metavar="N"),
    ] = None
    max_tokens: Annotated[Count | None, Setting("Stop before this run would be billed more tokens.")] = None
    max_time_s: Annotated[
        Duration | None,
        Setting("Stop after this time: seconds, or for example 45m or 4h.", keyword="max_time", metavar="TIME"),
    ] = None
