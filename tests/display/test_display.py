"""What people see while a run goes on, and at its end."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pipeline.display.colour import coloured, has_colour
from pipeline.display.figures import block
from pipeline.display.last_screen import describe
from pipeline.display.logs import JsonLines, Lines, Times
from pipeline.display.outlook import Outlook
from pipeline.display.pace import Pace, duration
from pipeline.display.progress import Block, Progress, Quiet, Surviving, make_progress
from pipeline.engine.progress import dollars, short
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


def drawn(counted: RunStats, width: int = 79, *, colour: bool = False, **outlook: float | None) -> list[str]:
    return block(counted, Outlook(**{"per_s": None, "left_s": None, **outlook}), width, colour=colour)


def test_the_block_tells_what_matters() -> None:
    """Count, speed, time left, dollars so far, projected and granted, tokens, failures, at 80 columns; the percentage
    counts what an earlier run kept.
    """
    counted = stats(cost_usd=Decimal("1.5"), granted_usd=Decimal(20), retried=4, in_flight=8, completion_tokens=3_400)
    counted.by_status[Status.FAILED] = 2
    counted.by_status[Status.REFUSED] = 1
    lines = drawn(counted, per_s=2.5, left_s=31.0)
    assert lines[0].startswith(" 50%  ━")
    assert lines[0].endswith("50 of 100 images  about 35 s left")
    assert lines[1].strip() == "2.5 images/s  27 answered  2 failed  4 retried  8 in flight  1 refused"
    assert lines[2].strip() == "$1.50 of about $4.00  $20.00 granted  1.5M tokens in, 3.4k out"
    assert drawn(stats(total=None, skipped=0))[0] == "30 images so far"


@pytest.mark.parametrize("width", [19, 40, 79, 120, 300])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    """Pieces are left out from the end, never cut; colours take no columns, and are nothing but colours."""
    counted = stats(
        waiting="answers with errors only until 07:34:57", granted_usd=Decimal(20), in_flight=512, retried=7
    )
    counted.by_status[Status.FAILED] = 2
    plain, shown = (drawn(counted, width, colour=colour, per_s=2.5, left_s=3100.0) for colour in (False, True))
    assert max(map(len, plain)) <= width
    assert [re.sub("\x1b\\[[0-9]+m", "", line) for line in shown] == plain
    assert width < 60 or "answers with errors only until 07:34:57  28 answered" in plain[1]


def test_an_unknown_price_is_not_zero_dollars() -> None:
    """Where no answer has a price the bar says so; where some have, it tells the sum of those."""
    assert stats(unpriced=3).known_cost_usd is None
    assert stats(unpriced=3, cost_usd=Decimal(1)).known_cost_usd == 1
    assert dollars(None) == "unknown"
    assert drawn(RunStats(total=9, is_priced=False))[2].strip() == "cost unknown"  # from the start
    assert drawn(RunStats(total=9))[2].strip() == "$0.0000"


def times(now: list[float]) -> Times:
    return Times(lambda: now[0], lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=now[0]))


def test_lines_for_logs() -> None:
    """Every ten seconds one plain line with time, rate and time left, later every minute; at once what is said, and
    the first answers.
    """
    now, stream, shown = [0.0], io.StringIO(), stats(total=10_000, asked=0)
    lines = Lines(stream, times(now))
    for second in (0.0, 1.0, 9.9, 10.0, 15.0, 20.0, 60.0, *range(61, 125)):
        now[0], shown.asked = float(second), int(second * 10)
        lines.show(shown)
    shown.first_answers.append(("a\x1b.jpg", "a quay"))
    lines.show(shown)
    lines.say("note: x")
    tail = "answered  $0.0000  1.5M tokens in, 0 out  about"
    assert stream.getvalue().splitlines() == [
        f"2026-01-01T00:00:10Z 120/10,000 (1 %)  10.0 images/s  100 {tail} 17 min left",
        f"2026-01-01T00:00:20Z 220/10,000 (2 %)  10.0 images/s  200 {tail} 17 min left",
        f"2026-01-01T00:01:00Z 620/10,000 (6 %)  10.0 images/s  600 {tail} 16 min left",
        f"2026-01-01T00:02:00Z 1,220/10,000 (12 %)  10.0 images/s  1,200 {tail} 15 min left",
        "2026-01-01T00:02:04Z answer: a\N{REPLACEMENT CHARACTER}.jpg: a quay",
        "2026-01-01T00:02:04Z note: x",
    ]


def test_a_log_of_json() -> None:
    """The same as one object a line, which `json` reads, and in which no terminal finds a command."""
    now, stream = [0.0], io.StringIO()
    lines = JsonLines(stream, times(now))
    now[0] = 10.0
    lines.say("note: a pause \x1b[2J")
    lines.show(stats(cost_usd=Decimal("1.5"), first_answers=[("a", "é\u202e")], waiting="rate limited until 11:27:54"))
    note, answer, progress = map(json.loads, stream.getvalue().splitlines())
    assert stream.getvalue().isascii()
    assert note == {"time": "2026-01-01T00:00:10Z", "event": "note", "message": "a pause \x1b[2J"}
    assert (answer["event"], answer["text"]) == ("answer", "é\u202e")
    assert (progress["done"], progress["cost_usd"], progress["projected_usd"]) == (50, "1.5", "4.000000")
    assert progress["waiting"] == "rate limited until 11:27:54"


def test_the_time_left_is_believable_from_the_first_minute() -> None:
    """A pace is shown after five seconds; a slow start and a long pause do not spoil it; a short one belongs to it."""
    pace, rows = Pace(), 0
    for second in range(121):
        rows = max(0, second - 10) * 4  # nothing for ten seconds, then four a second
        pace.add(float(second), rows, 0.0)
        left_s = pace.left_s(rows, 4_000 - rows, 0.0)
        if second < 5 or not rows:
            assert left_s is None
        if second >= 20:
            assert left_s == pytest.approx((4_000 - rows) / 4, rel=0.05)
    for second in range(121, 721):  # ten minutes out of credit
        pace.add(float(second), rows, 721.0 - second)
    assert pace.left_s(rows, 3_560, 300.0) == pytest.approx(3_560 / 4 + 300.0, rel=0.05)
    assert [duration(seconds) for seconds in (1, 31, 100, 7_300, 100_000, 700_000)] == [
        "about 5 s", "about 35 s", "about 2 min", "about 2 h 10 min", "about 27 h 50 min", "about 8 d 3 h",
    ]  # fmt: skip


def test_a_terminal_gets_a_block_and_a_pipe_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream decides, unless it cannot move its cursor; quiet beats it, and so does JSON."""
    monkeypatch.setenv("TERM", "xterm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(_shown(make_progress(io.StringIO())), Lines)
    assert isinstance(make_progress(io.StringIO(), quiet=True), Quiet)
    assert isinstance(_shown(make_progress(Terminal(), log_json=True)), JsonLines)
    terminal = make_progress(Terminal())
    assert isinstance(_shown(terminal), Block)
    terminal.close()
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(_shown(make_progress(Terminal())), Lines)


def _shown(progress: Progress) -> Progress:
    assert isinstance(progress, Surviving)
    progress.close()
    return progress.shown


def test_a_terminal_that_is_gone_ends_no_run() -> None:
    """A display that cannot be written falls silent."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    progress = make_progress(Gone())
    assert isinstance(_shown(progress), Lines)
    progress.show(stats(first_answers=[("a", "b")]))
    assert isinstance(_shown(progress), Quiet)
    progress.close()


def test_the_summary() -> None:
    """What was asked, what came of it, what it cost, what was saved, and where it is."""
    text = describe(summary())
    assert "5 images in 10.0 s (0.5 images/s): 5 ok" in text
    assert "cost: $0.0123; sent 750.0 kB of 15.0 MB" in text
    assert 'pandas.read_parquet("out/data")' in text
    assert "unknown" in describe(summary(cost_usd=None))
    assert "nothing to ask" in describe(summary(asked=0, skipped=5))
    assert "rehearsed" in describe(summary(endpoint="emulator"))


def test_names_from_outside_cannot_act_on_the_terminal() -> None:
    """Escape sequences and line breaks in file names and messages are shown, not obeyed."""
    hostile = ("a\x1b[2J\n.jpg", "bad_request", "say\x07\r\n")
    text = describe(summary(examples=[hostile], by_error={"bad_request": 4, **{f"k{n}": 1 for n in range(10)}}))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "  4 bad_request: a" in text
    assert "  1 k6\n  ... and 3 more" in text
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
    """`unknown` alone on a line could be anything; a rehearsal of a model without a price says one thing only."""
    assert drawn(stats(unpriced=3))[2].strip() == "cost unknown  1.5M tokens in, 0 out"
    assert "cost: unknown (rehearsed: nothing was billed)" in describe(summary(cost_usd=None, endpoint="emulator"))


def test_nothing_is_drawn_before_a_run_has_begun() -> None:
    """A mistake that is found before anything is asked, and a run that is done at once, have no block above them."""
    stream = io.StringIO()
    shown = Block(stream)
    shown.show(stats())
    shown.close()
    assert stream.getvalue() == ""


def test_what_is_waited_for_stands_first() -> None:
    """A terminal of 80 columns still says why nothing moves, where there is no room for all figures."""
    assert drawn(stats(waiting="rate limited until 11:27:54"))[1].startswith("      rate limited until 11:27:54  ")
    assert drawn(stats(waiting="stopping"))[1].strip().startswith("stopping  30 answered")


def test_a_slow_run_has_the_same_unit() -> None:
    """Below one image a second the block still tells images a second, as the summary and the logs do."""
    assert "0.30 images/s" in drawn(stats(), per_s=0.3)[1]
    assert "120 rows/s" in drawn(stats(prompts=2), per_s=120.4)[1]


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """None in a pipe, with NO_COLOR, and on a terminal that has none; statuses, warnings and the cost have it."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert has_colour(Terminal())
    assert not has_colour(io.StringIO())
    assert not has_colour(None)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())
    text = "3 images: 1 ok, 2 failed, 0 refused\nnote: x\ncost: $1.50; 5 ok.jpg\nvision-batch: y"
    assert coloured(text) == (
        "3 images: \x1b[32m1 ok\x1b[0m, \x1b[31m2 failed\x1b[0m, 0 refused\n\x1b[33mnote\x1b[0m: x\n"
        "cost: \x1b[1m$1.50\x1b[0m; \x1b[32m5 ok\x1b[0m.jpg\n\x1b[31mvision-batch\x1b[0m: y"
    )
