"""What people see while a run goes on, and at its end."""

import io
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pipeline.engine.progress import Bar, Lines, Progress, Quiet, Surviving, describe, dollars, make_progress, short
from pipeline.engine.stats import RunStats, RunSummary
from pipeline.formatting import printable
from pipeline.records import Status


def stats(**more: Any) -> RunStats:
    return RunStats(**{"total": 100, "skipped": 20, "asked": 30, "prompt_tokens": 1_500_000, **more})


def summary(**more: Any) -> RunSummary:
    values: dict[str, Any] = {
        "run_id": "r", "out": "out", "exit_code": 0, "stopped": None, "model": "m", "endpoint": "https://x/v1",
        "config_hash": "h", "began_at": datetime(2026, 1, 1, tzinfo=UTC), "seconds": 10.0, "images": 5, "skipped": 0,
        "asked": 5, "followers": 0, "requests": 5, "by_status": {"ok": 5}, "by_error": {}, "prompt_tokens": 5000,
        "completion_tokens": 50, "cost_usd": Decimal("0.0123"), "cost_unknown_usd": Decimal(0),
        "unpriced": 0, "rate_limited": 0, "by_endpoint": {}, "source_bytes": 15_000_000,
        "sent_bytes": 750_000,
    }  # fmt: skip
    return RunSummary(**{**values, **more})


def test_the_bar_tells_what_matters() -> None:
    """Count, tokens, dollars and failures; the percentage counts what an earlier run kept."""
    stream = io.StringIO()
    bar = Bar(stream)
    counted = stats(cost_usd=Decimal("1.5"))
    counted.by_status[Status.FAILED] = 2
    bar.show(counted)
    bar.close()
    last = stream.getvalue().rsplit("\r", 1)[-1]
    assert " 50%" in last
    assert "50/100" in last
    assert "1.5M tok, $1.50, 2 failed" in last


def test_an_unknown_price_is_not_zero_dollars() -> None:
    """Where no answer has a price the bar says so; where some have, it tells the sum of those."""
    assert stats(unpriced=3).known_cost_usd is None
    assert stats(unpriced=3, cost_usd=Decimal(1)).known_cost_usd == 1
    assert dollars(None) == "unknown"


def test_lines_for_logs() -> None:
    """Every ten seconds one plain line with rate and time left, and nothing in between."""
    now = [0.0]
    stream = io.StringIO()
    lines = Lines(stream, lambda: now[0])
    for now[0] in (1.0, 9.9, 10.0, 15.0, 20.0):
        lines.show(stats())
    assert stream.getvalue().splitlines() == [
        "50/100 (50 %)  3.0 images/s  1.5M tok  $0.0000  0:00:17 left",
        "50/100 (50 %)  1.5 images/s  1.5M tok  $0.0000  0:00:33 left",
    ]


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines() -> None:
    """The stream decides; quiet beats it."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(_shown(make_progress(io.StringIO())), Lines)
    assert isinstance(make_progress(io.StringIO(), quiet=True), Quiet)
    bar = make_progress(Terminal())
    assert isinstance(_shown(bar), Bar)
    bar.close()


def _shown(progress: Progress) -> Progress:
    assert isinstance(progress, Surviving)
    return progress._shown


def test_a_terminal_that_is_gone_ends_no_run() -> None:
    """A bar that cannot be written falls silent."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    progress = make_progress(Gone())
    shown = _shown(progress)
    assert isinstance(shown, Lines)
    shown._last -= 100
    progress.show(stats())
    assert isinstance(_shown(progress), Quiet)
    progress.close()


def test_the_summary() -> None:
    """What was asked, what came of it, what it cost, what was saved, and where it is."""
    text = describe(summary())
    assert "5 images in 10.0 s (0.5 images/s): 5 ok" in text
    assert "cost: $0.0123; sent 750.0kB of 15.0MB" in text
    assert 'pandas.read_parquet("out/data")' in text
    assert "unknown" in describe(summary(cost_usd=None))
    assert "nothing to ask" in describe(summary(asked=0, skipped=5))
    assert "rehearsed" in describe(summary(endpoint="emulator"))


def test_names_from_outside_cannot_act_on_the_terminal() -> None:
    """Escape sequences and line breaks in file names and messages are shown, not obeyed."""
    hostile = ("a\x1b[2J\n.jpg", "bad_request", "say\x07\r\n")
    text = describe(summary(examples=[hostile], by_error={"bad_request": 4}))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "... and 3 more" in text
    assert printable("é\u202e") == "é\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1.0k"), (2_300_000, "2.3M"), (4e9, "4.0G")]
)
def test_short_numbers(number: float, text: str) -> None:
    """Three digits and a unit."""
    assert short(number) == text


def test_one_is_one() -> None:
    """A single image is `1 image`; good rows stand before bad ones; a line that says nothing but zeros is left out."""
    assert describe(summary(asked=1)).startswith("1 image in 10.0 s")
    assert "5 images in 10.0 s (0.5 images/s): 3 ok, 2 failed" in describe(summary(by_status={"failed": 2, "ok": 3}))
    assert "nothing to ask: the one image is kept already" in describe(summary(asked=0, skipped=1))
    assert "tokens:" not in describe(summary(requests=0, by_status={"failed": 5}))


def test_no_results_are_promised_where_there_are_none() -> None:
    """A run that the endpoint stopped at once names no folder to read, and nothing that is kept from before."""
    text = describe(summary(asked=0, requests=3, stopped="no server listens"))
    assert text == "no image was answered in 10.0 s"
    assert "up to $0.5000 for" in describe(summary(asked=0, stopped="x", cost_unknown_usd=Decimal("0.5")))
    assert "; 7 are kept from before\nresults:" in describe(summary(asked=0, requests=0, stopped="x", skipped=7))


def test_an_unknown_cost_is_named_as_one() -> None:
    """`unknown` alone on a bar could be anything; a rehearsal of a model without a price says one thing only."""
    stream = io.StringIO()
    bar = Bar(stream)
    bar.show(stats(unpriced=3))
    bar.close()
    assert "1.5M tok, cost unknown]" in stream.getvalue()
    assert "cost: unknown (rehearsed: nothing was billed)" in describe(summary(cost_usd=None, endpoint="emulator"))


def test_no_bar_before_a_run_has_begun() -> None:
    """A mistake that is found before anything is asked has no empty bar above it."""
    stream = io.StringIO()
    Bar(stream).close()
    assert stream.getvalue() == ""


def test_what_is_waited_for_stands_first() -> None:
    """A terminal of 80 columns still says why nothing moves, where there is no room for all figures."""
    stream = io.StringIO()
    bar = Bar(stream)
    bar.show(stats(waiting="rate limited until 11:27:54"))
    bar.close()
    assert "img/s, rate limited until 11:27:54, 1.5M tok, $0.0000]" in stream.getvalue()


def test_a_slow_run_has_the_same_unit() -> None:
    """Below one image a second the bar still tells images a second, as the summary and the logs do."""
    stream = io.StringIO()
    bar = Bar(stream)
    bar.show(stats())
    assert bar._bar is not None
    bar._bar.start_t -= 100
    bar.show(stats())
    bar.close()
    assert re.search(r"0\.\d\dimg/s, 1\.5M tok", stream.getvalue())
    assert "s/img" not in stream.getvalue()
