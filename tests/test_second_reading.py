"""What a second reading of limits, budgets and retries found, each as the case that showed it."""

from typing import Any

import anyio
import pytest

import pipeline
from pipeline import BudgetReachedError
from pipeline.config.keywords import resolve
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import RequestConfig
from pipeline.endpoints import pricing
from pipeline.endpoints.ratelimit_headers import reset_s
from pipeline.engine.stages import Clock, Endpoint
from pipeline.errors import ErrorKind, InterruptedRunError
from pipeline.http.values import retry_after
from pipeline.limits.budget import Amounts, Budget
from pipeline.limits.concurrency import ConcurrencyLimit
from pipeline.limits.decision import Action
from pipeline.records import Answer, Failure
from tests.emulators import emulator
from tests.engine.test_engine import Bench, never_answers
from tests.engine.test_scheduler import bill, dear, line
from tests.engine.test_state import AWAY, BUSY, GOOD, fail, rig
from tests.limits.test_concurrency import SETTLED_S, Server, drive, per_s, steady
from tests.run.test_budget import PRICE
from tests.support import MakeImage

DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


def test_a_refused_probe_waits_as_told() -> None:
    """After a probe that is refused with Retry-After 1 s, the next one goes a second later."""
    bench = rig()
    for _ in range(3):
        bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=1.0), takes_s=0.5)
        assert bench.ready_in() == 1.0
        bench.until_ready()


def test_pauses_double() -> None:
    """An endpoint that cannot be reached is probed after 1, 2, 4 ... 60 s, as Circuit.open() says."""
    bench, waits = rig(config={"outage_s": 1e6}), []
    bench.ask(GOOD)
    for _ in range(8):
        bench.ask(AWAY, takes_s=0.0)
        waits.append(bench.ready_in())
        bench.until_ready()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_wrong_rule_is_wrong_once_for_all_in_flight() -> None:
    """Ten in flight, each billed twice its reservation: margin 2, not 1024 (which ends every budget at once)."""
    budget, need = Budget(Amounts(nano_usd=10**12)), Amounts(100, None, 1)
    for _ in range(10):
        budget.reserve(need)
    for _ in range(10):
        budget.settle(need, Amounts(200, 0, 1), need)
    assert budget.margin == 2.0


def test_dollars_and_tokens_are_one_mistake() -> None:
    """One request that came to twice its dollars and its tokens: margin 2, not 4."""
    budget, need = Budget(Amounts(nano_usd=10**12, tokens=10**9)), Amounts(100, 100, 1)
    budget.reserve(need)
    budget.settle(need, Amounts(200, 200, 1), need)
    assert budget.margin == 2.0


@pytest.mark.parametrize(
    "text", ["1 Jan 2020 00:00:00 +99999999999999999", "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT"]
)
def test_no_date_is_an_error(text: str) -> None:
    """A header that is nonsense is None."""
    assert reset_s(text, DATE) is None
    assert retry_after({"retry-after": text, "date": DATE}) is None


def test_a_wait_of_a_million_years() -> None:
    """Retry-After 99999999999999 stops the run like any wait that is too long."""
    bench = rig()
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=1e14))
    assert bench.endpoint.stopped is not None


def test_a_busy_hour_fails_nobody() -> None:
    """One other record was answered before the endpoint became busy for all; nobody succeeds since: no record fails."""
    bench = rig()
    state = bench.state()
    bench.ask(GOOD)
    for _ in range(30):
        bench.until_ready()
        assert bench.ask(BUSY, state) is not None


@pytest.mark.parametrize(("slots", "thrash", "work_s", "jitter"), [(2, 0.3, 0.2, 0.2), (3, 0.3, 0.2, 0.2)])
def test_the_knee_is_found_elsewhere_too(slots: int, thrash: float, work_s: float, jitter: float) -> None:
    """At least 90 % of what the right number brings, from 20 s on."""
    answered, _ = drive(steady(slots, jitter, thrash, work_s), ConcurrencyLimit(), 80.0)
    best, _ = drive(steady(slots, jitter, thrash, work_s), slots, 80.0)
    assert per_s(answered, SETTLED_S, 80.0) >= 0.9 * per_s(best, SETTLED_S, 80.0)


@pytest.mark.parametrize("thrash", [0.3, 0.5])
def test_a_server_that_loses_most_of_its_slots(thrash: float) -> None:
    """At 30 s only 8 of 64 slots are left: a minute later at least 90 % of what they bring."""
    server = Server(lambda now: 64 if now < 30 else 8, lambda _: 0.2, jitter=0.2, thrash=thrash)
    answered, _ = drive(server, ConcurrencyLimit(), 120.0)
    assert per_s(answered, 90.0, 120.0) >= 0.9 * 8 / 0.2


async def test_the_lease_ends_at_the_ceiling() -> None:
    """A budget of 200 with reservations of 60 leases no more than 200."""
    bench = line(budgets=[Budget(Amounts(nano_usd=200))], most=dear)
    await bench.ask(result=bill(10))
    await bench.ask(result=bill(10))
    assert max(lease.nano_usd or 0 for lease in bench.leases) <= 200


def test_the_words_name_the_ceiling_that_was_reached(make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-cost 0.01 --max-cost-total 100` after an earlier run: the message says 0.01."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    for number in range(30):
        make_image(f"photos/{number:02}.jpg", 64, 48, seed=number)
    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "quiet": True, "concurrency": 2, "detail": "low"}
    with emulator() as url:
        pipeline.run("photos", base_url=url, limit=5, **settings)
        with pytest.raises(BudgetReachedError) as caught:
            pipeline.run("photos", base_url=url, max_cost="0.01", max_cost_total="100", **settings)
    assert "$0.0100" in str(caught.value)


def test_no_bound_of_the_answer_stays_none() -> None:
    """`pipeline.run(config=RunConfig(request=RequestConfig(max_tokens=None)))` asks without max_tokens."""
    assert resolve(RunConfig(request=RequestConfig(max_tokens=None)), {}).request.max_tokens is None


async def test_all_that_is_cut_off_is_counted() -> None:
    """Three hundred requests are cut off: three hundred reservations are kept as unknown."""
    bench = Bench(2000, never_answers)
    bench.budgets = [Budget(Amounts(nano_usd=10**9))]
    bench.endpoints = [Endpoint(name="here", ask=bench.ask, slots=300, most=lambda _: Amounts(1000, 100, 1))]
    bench.clock = Clock()  # the fast one gives up what is in flight for two seconds
    engine = bench.engine()
    all_in_flight = anyio.Event()

    async def script(name: str, attempt: int) -> Answer | Failure:
        if bench.in_flight == 300:
            all_in_flight.set()
        return await never_answers(name, attempt)

    bench.script = script

    async def run() -> None:
        with pytest.raises(InterruptedRunError):
            await engine.run()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await all_in_flight.wait()
            engine.stop(InterruptedRunError("interrupted", 2), at_once=True)
    assert sum(attempt.unknown_nano_usd for attempt in bench.billed) == 300 * 1000


async def test_nobody_waits_for_an_endpoint_that_is_away() -> None:
    """What one of two refuses is asked at the other only while that one is at work; the line would wait for it."""
    bench = line(1, 1)
    bench.home(away := await bench.next(), AWAY)
    refused = await bench.next()
    assert refused.endpoint is not away.endpoint
    assert bench.home(refused, fail(ErrorKind.BAD_REQUEST, status=400)) is None
    assert bench.action() is Action.FAIL


async def test_a_refusal_is_referred_once() -> None:
    """A 400 of the first is asked at the second, whatever the shares; a 400 there is the last word."""
    bench, refusal = line(9, 1), fail(ErrorKind.BAD_REQUEST, status=400)
    state = bench.state()
    first = await bench.next(state)
    bench.home(first, refusal)
    assert bench.action() is Action.OTHER_ENDPOINT
    second = await bench.next(state)
    assert {first.endpoint.name, second.endpoint.name} == {"a", "b"}
    bench.home(second, refusal)
    assert bench.action() is Action.FAIL
