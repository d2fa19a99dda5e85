"""What a user sees while an endpoint throttles everything for a while, and how such a run ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from pipeline import EndpointStoppedError
from pipeline.engine.pauses import PauseLog
from pipeline.errors import ErrorKind
from pipeline.limits.circuit import PauseReason
from pipeline.limits.notices import LASTING_S, WORTH_S, Notices
from pipeline.records import Failure
from pipeline.store.events import as_json, read_pauses
from tests import builders
from tests.engine.test_scheduler import line
from tests.engine.test_state import GOOD, Rig, fail, rig
from tests.stub import Reply, stub
from tests.support import MakeImage, unstamped

WORDS = "No available models currently"
NO_MODELS = Reply(
    503, {"error": {"err_code": -10008, "message": WORDS, "message_cn": "无可用模型", "type": "api_error"}}
)
BUSY = fail(ErrorKind.OVERLOADED, status=503)


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(4):
        make_image(f"photos/{number}.png", 20 + number, 16, seed=number)
    return Path("photos").resolve()


def ask(source: Path, url: str | list[str], **overrides: object) -> pipeline.RunSummary:
    return builders.ask(source, url, overrides=overrides, concurrency=2, quiet=False)


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was said on standard error since the last look."""
    return [text for text in unstamped(capsys.readouterr().err) if text.startswith("note: ")]


def first(count: int, refusal: Reply) -> Callable[[int], int | Reply]:
    """A server that refuses the first `count` requests and answers all others."""
    left = [count]

    def decide(_: int) -> int | Reply:
        left[0] -= 1
        return refusal if left[0] >= 0 else 200

    return decide


# ---------------------------------------------------------------- whole runs


def test_a_throttle_is_shown_in_the_servers_words(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Proves that the first pause is said once, with the status and the words that 302.AI answers with."""
    with stub(first(2, NO_MODELS)) as server:
        assert ask(photos, server.base_url).by_status == {"ok": 4}
        said = [text for text in notes(capsys) if WORDS in text]
    follows = "sending pauses and tries again, for at most 3600 s (limits.max_wait_s)"
    assert said == [f"note: {server.base_url} - HTTP 503: {WORDS} - {follows}"]


def test_pauses_are_recorded(photos: Path) -> None:
    """The ledger has each with its reason and length, `status.json` too; a rebuilt ledger keeps them."""
    with stub(first(2, NO_MODELS)) as server:
        ask(photos, server.base_url)
    (pause,) = read_pauses(Path("out"))
    assert (pause.endpoint, pause.reason, pause.times) == (server.base_url, "rate limited", 1)
    assert 0.5 < pause.seconds < 30
    assert (pause.ended_at - pause.began_at).total_seconds() == pytest.approx(pause.seconds, abs=1e-5)
    (published,) = json.loads(Path("out/status.json").read_text())["pauses"]
    assert published == as_json(pause)
    pipeline.rebuild("out")
    assert read_pauses(Path("out")) == [pause]


@pytest.mark.parametrize(
    "refusal",
    [
        NO_MODELS,
        Reply(529, {"type": "error", "error": {"type": "overloaded_error", "message": WORDS}}),
        Reply(429, {"error": {"code": "rate_limit_exceeded", "message": WORDS}}),
        Reply(200, {"error": {"err_code": "-10008", "message": WORDS}}),
    ],
)
def test_a_refusal_that_lasts_ends_the_run(photos: Path, capsys: pytest.CaptureFixture[str], refusal: Reply) -> None:
    """Proves that `limits.max_wait_s` bounds refusals without a time to wait: exit code 4, in the server's words."""
    with stub(lambda _: refusal) as server, pytest.raises(EndpointStoppedError) as caught:
        ask(photos, server.base_url, **{"limits.max_wait_s": 0.5})
    assert caught.value.exit_code == 4
    assert str(caught.value) == f"{WORDS} - run the same command later to go on (refused for 0.5 s: limits.max_wait_s)"
    assert sum(WORDS in text for text in notes(capsys)) == 1


def test_a_wait_that_is_too_long_says_when_to_go_on(photos: Path) -> None:
    """Proves that a `Retry-After` beyond `limits.max_wait_s` ends the run at once, with the time and the words."""
    told = Reply(503, NO_MODELS.body, {"Retry-After": "60", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    with (
        stub(lambda _: told) as server,
        pytest.raises(EndpointStoppedError, match=rf"{WORDS} \(go on after 20") as caught,
    ):
        ask(photos, server.base_url, **{"limits.max_wait_s": 30})
    assert caught.value.exit_code == 4
    assert sum(server.asked.values()) <= 2


def test_an_endpoint_that_is_away_is_shown_at_once(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Proves that a refused connection is said at the first pause, and again as the reason why the run ends."""
    with stub() as server:
        url = server.base_url
    with pytest.raises(EndpointStoppedError, match="no server listens"):
        ask(photos, url, **{"limits.first_contact_s": 0.5})
    said = [text for text in notes(capsys) if "no server listens" in text]
    assert len(said) == 1
    assert said[0].endswith("for at most 0.5 s (limits.first_contact_s)")


@pytest.mark.parametrize(
    ("refusal", "follows"),
    [
        (NO_MODELS, "sending pauses and tries again"),
        (Reply(401, {"error": {"message": WORDS}}), "is asked no more"),
        (Reply(429, {"error": {"code": "insufficient_quota", "message": WORDS}}), "the others go on without it"),
    ],
)
def test_of_several_endpoints_the_one_that_refuses_is_named(
    photos: Path, capsys: pytest.CaptureFixture[str], refusal: Reply, follows: str
) -> None:
    """Proves that a run which goes on with another endpoint says, once, which one refuses and with what words."""
    with stub() as good, stub(lambda _: refusal) as other:
        assert ask(photos, [good.base_url, other.base_url]).by_status == {"ok": 4}
    said = [text for text in notes(capsys) if WORDS in text]
    assert len(said) == 1
    assert said[0].startswith(f"note: {other.base_url} - HTTP {refusal.status}: {WORDS} - {follows}")


# ---------------------------------------------------------------- by the clock


def refused_until(bench: Rig, failure: Failure, longest_s: float) -> float:
    """Refuse each request that may be sent until the endpoint stops -> seconds since the first one."""
    began_s = bench.hand.now_s
    while not bench.has_stopped() and bench.hand.now_s - began_s <= longest_s:
        bench.until_ready()
        bench.ask(failure, takes_s=0.0)
    return bench.hand.now_s - began_s


@pytest.mark.parametrize("max_wait_s", [1.0, 20.0, 600.0, 3600.0])
@pytest.mark.parametrize("kind", [ErrorKind.OVERLOADED, ErrorKind.RATE_LIMITED])
@pytest.mark.parametrize("outage_s", [5.0, 1800.0])
def test_refusals_are_waited_for_exactly_so_long(max_wait_s: float, kind: ErrorKind, outage_s: float) -> None:
    """Proves that refusals without a time to wait stop a run after `limits.max_wait_s`, whatever `limits.outage_s`."""
    bench = rig(config={"max_wait_s": max_wait_s, "outage_s": outage_s})
    assert refused_until(bench, fail(kind), 7200) == max_wait_s


def test_a_time_to_wait_is_kept_beyond_the_end() -> None:
    """Proves that no request is sent before the time that the endpoint named, although the patience ends sooner."""
    bench = rig(config={"max_wait_s": 30.0})
    assert refused_until(bench, fail(ErrorKind.OVERLOADED, retry_after_s=20.0), 7200) == 40.0


def test_words_are_said_once_and_the_end_too() -> None:
    """Proves that a hundred refusals are two lines: the first one's words, and that it answers again."""
    bench = rig()
    assert refused_until(bench, BUSY, 600) > 600
    bench.until_ready()
    bench.ask(GOOD, takes_s=0.0)
    lines = bench.endpoint.notices.take()
    assert len(lines) == 2
    assert lines[0].startswith("here - HTTP 503: because overloaded - sending pauses")
    assert lines[1].startswith("here answers again after 6")
    assert lines[1].endswith("before: HTTP 503: because overloaded")
    assert bench.endpoint.notices.take() == []


@pytest.mark.parametrize(("lasts_s", "lines"), [(WORTH_S - 1, 1), (WORTH_S, 2)])
def test_the_end_of_a_short_pause_is_not_said(lasts_s: float, lines: int) -> None:
    """Proves that a pause of a second takes one line, not two."""
    notices = Notices("here")
    notices.refused(0.0, 0.0, BUSY, "x")
    notices.answered(lasts_s)
    assert len(notices.take()) == lines


def test_each_kind_is_said_once_unless_it_lasts() -> None:
    """Proves that another kind of refusal is said, the same one later is not, and one that lasts is."""
    notices = Notices("here")
    for since in (0.0, 100.0):
        notices.refused(since, since, BUSY, "x")
        notices.refused(since + 1, since, fail(ErrorKind.RATE_LIMITED, status=429), "x")
        notices.answered(since + 2)
    assert len(notices.take()) == 2
    for now in (200.0, 200.0 + LASTING_S - 1, 200.0 + LASTING_S, 300.0, 400.0):
        notices.refused(now, 200.0, BUSY, "x")
    assert len(notices.take()) == 1
    notices.answered(500.0)
    assert notices.take() == ["here answers again after 300 s - before: HTTP 503: because overloaded"]


async def test_the_end_of_a_run_says_it_once() -> None:
    """Proves that the words of the refusal that ends a run are not said beside the reason; others are."""
    bench = line(1, 1)
    await bench.ask(result=fail(ErrorKind.QUOTA_EXHAUSTED))
    assert bench.scheduler.remarks() == ["a - because quota_exhausted - the others go on without it"]
    await bench.ask(result=fail(ErrorKind.AUTHENTICATION))
    assert bench.scheduler.remarks() == []


def test_pauses_that_follow_each_other_closely_are_one() -> None:
    """Of a day with thousands of short ones the list stays short; one that goes on is in it, and keeps its date."""
    bench = rig()
    log = PauseLog(bench.hand.clock())

    def paused(for_s: float, then_s: float) -> None:
        bench.endpoint.circuit.open(bench.hand.now_s, PauseReason.THROTTLED, 1.0, bench.hand.now_s)
        bench.hand.now_s += for_s / 2
        half = log.noted([bench.endpoint])[-1]
        bench.hand.now_s += for_s / 2
        bench.endpoint.circuit.close(bench.hand.now_s)
        assert (half.seconds, half.reason, half.times) == (for_s / 2, "rate limited", 1)
        bench.hand.now_s += then_s

    for for_s, then_s in ((2.0, 0.5), (4.0, 0.5), (6.0, 100.0), (1.0, 0.0)):
        paused(for_s, then_s)
    found = log.noted([bench.endpoint])
    assert [(one.times, one.seconds) for one in found] == [(3, 12.0), (1, 1.0)]
    assert [(one.ended_at - one.began_at).total_seconds() for one in found] == [13.0, 1.0]
    assert found == log.noted([bench.endpoint])
