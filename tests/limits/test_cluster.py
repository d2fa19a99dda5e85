"""Limits and budgets that several holders have together: the sum never exceeds what is set, also where holders die."""

import random
from collections.abc import Sequence
from math import inf

import pytest

from pipeline.limits.budget import Amounts
from pipeline.limits.cluster import LEASE_S, ClusterLimits, EndpointLimits, EndpointReport, Orders

NOTHING = Amounts(0, 0, 0)
QUIET = (EndpointReport(),)
ONE = EndpointLimits()


def limits_of(
    endpoint: EndpointLimits = ONE, budget: Amounts | None = None, awaited: Sequence[str] = ()
) -> ClusterLimits:
    return ClusterLimits(0.0, [endpoint], budget or Amounts(), {}, awaited)


@pytest.mark.parametrize(("rpm", "holders", "uneven"), [(600.0, 4, False), (600.0, 4, True), (60.0, 3, True)])
def test_holders_use_a_rate_whole_and_never_more(rpm: float, holders: int, uneven: bool) -> None:  # noqa: FBT001
    """Each uses its permits late, by as much as it may; in any sixty seconds there are no more than set."""
    rng, sent, now = random.Random(1), list[float](), 0.0
    limits = limits_of(EndpointLimits(rpm=rpm))
    names = [f"{number}/{holders}" for number in range(holders)]
    for name in names:
        limits.register(0.0, name, NOTHING, None)
    free_at = dict.fromkeys(names, 0.0)
    while now < 240:
        name = min(free_at, key=lambda each: free_at[each])
        now = free_at[name]
        found = limits.take(now, name, 0, 100.0, 1 if uneven and name == names[0] else 50)
        sent += [now + after_s + rng.uniform(0, 0.4) for after_s in found.after_s]
        busy_s = found.after_s[-1] if found.after_s else found.wait_s
        free_at[name] = now + max(0.001, busy_s) + rng.uniform(0, 0.01)
        limits.exchange(now, name, QUIET)
    sent.sort()
    assert max(sum(begun <= at < begun + 60 for at in sent) for begun in sent[:: len(sent) // 200]) <= rpm
    assert sum(60 <= at < 240 for at in sent) >= 0.97 * 3 * rpm


def test_what_an_endpoint_advertises_counts_for_all_and_what_was_sent_before_it_too() -> None:
    limits = limits_of()
    for name in ("a", "b"):
        assert limits.register(0.0, name, NOTHING, None) == Orders(
            paused_s=(0.0,), concurrency=(inf,), limited=(False,)
        )
    limits.exchange(1.0, "a", [EndpointReport(sent=(40, 4_000.0))])
    orders = limits.exchange(1.1, "b", [EndpointReport(sent=(20, 2_000.0), rpm=60, tpm=90_000)])
    assert orders.limited == (True,)
    assert limits.take(1.2, "a", 0, 100.0, 5).after_s == ()
    assert limits.take(63.0, "a", 0, 100.0, 5).after_s != ()


def test_a_pause_holds_the_others_as_long_as_it_lasts() -> None:
    limits = limits_of(EndpointLimits(rpm=6_000))
    for name in ("a", "b"):
        limits.register(0.0, name, NOTHING, None)
    assert limits.exchange(1.0, "a", [EndpointReport(paused_s=3.0)]).paused_s == (0.0,)
    assert limits.exchange(1.5, "b", QUIET).paused_s == (2.5,)
    assert limits.take(2.0, "b", 0, 1.0, 1).after_s == ()
    limits.exchange(3.0, "a", QUIET)
    assert limits.take(3.0, "b", 0, 1.0, 1).after_s == (0.0,)


def test_the_number_in_flight_is_kept_while_holders_come_and_go() -> None:
    """A holder begins with what the others have given back; orders arrive late; one that dies gives back at last."""
    rng, limits = random.Random(2), limits_of(EndpointLimits(concurrency=10))
    may, in_flight = dict[str, float](), dict[str, int]()
    for now in range(2_000):
        name = f"{rng.randrange(6)}"
        if name not in may or (rng.random() < 0.02 and not in_flight[name]):
            limits.leave(name, NOTHING)
            may[name], in_flight[name] = limits.register(float(now) / 10, name, NOTHING, None).concurrency[0], 0
        for each in may:
            reported = in_flight[each]
            in_flight[each] += max(0, int(may[each]) - in_flight[each])  # sent while the report is under way
            may[each] = limits.exchange(now / 10, each, [EndpointReport(in_flight=reported)]).concurrency[0]
            assert sum(in_flight.values()) <= 10
            in_flight[each] -= rng.randint(0, in_flight[each])
    assert sorted(may.values()) == [1, 1, 2, 2, 2, 2]
    silent = limits_of(EndpointLimits(concurrency=10))
    silent.register(0.0, "dead", NOTHING, None)
    assert silent.register(1.0, "new", NOTHING, None).concurrency == (0.0,)
    assert silent.exchange(LEASE_S + 1, "new", QUIET).concurrency == (10.0,)
    assert silent.exchange(LEASE_S + 2, "dead", QUIET).is_unknown


def test_a_budget_is_never_exceeded_and_comes_back() -> None:
    """Parts that were given out and not spent return when their shard ends, or is taken over; not before."""
    rng, budget = random.Random(3), Amounts(1_000_000, None, 5_000)
    limits, spent = limits_of(budget=budget), dict[str, int]()
    for now in range(3_000):
        name = f"{rng.randrange(5)}"
        if name not in spent or rng.random() < 0.05:  # it dies, and another worker takes its shard over
            limits.register(float(now), name, Amounts(spent.setdefault(name, 0), 0, 0), None)
        found, may_come = limits.more(float(now), name, Amounts(300, 0, 1), Amounts(3_000, 0, 10), is_idle=False)
        granted = sum(one.nano_usd or 0 for one in limits.granted.values())
        assert granted <= 1_000_000
        if found is not None:
            spent[name] = rng.randint(spent[name], found.nano_usd or 0)
        elif not may_come:
            break
    assert sum(spent.values()) <= 1_000_000
    for name, amount in spent.items():
        limits.leave(name, Amounts(amount, 0, 0))
    left = 1_000_000 - sum(spent.values())
    assert limits.more(9e9, "last", Amounts(left, 0, 1), Amounts(left, 0, 1), is_idle=True)[0] == Amounts(left, 0, 1)
    assert limits.more(9e9, "last", Amounts(1, 0, 0), Amounts(1, 0, 0), is_idle=True) == (None, False)


def test_another_process_gives_nothing_out_until_it_has_heard_of_all_that_was() -> None:
    """A holder that goes on states what it sent; one that begins anew is another, and its past is not known."""
    limits = limits_of(EndpointLimits(rpm=60), awaited=("a", "b"))
    assert limits.take(1.0, "a", 0, 1.0, 1).is_unknown
    assert limits.exchange(1.0, "a", QUIET).is_unknown
    limits.register(1.0, "a", NOTHING, [(30, 0.0)])
    assert limits.take(1.0, "a", 0, 1.0, 1).wait_s > 0
    limits.register(2.0, "b", NOTHING, None)
    assert limits.take(2.0, "b", 0, 1.0, 1).wait_s > 0
    limits.register(3.0, "b", NOTHING, [(29, 0.0)])
    assert len(limits.take(33.0, "b", 0, 1.0, 5).after_s) == 1


def test_holders_that_all_wait_for_a_budget_learn_that_nothing_comes() -> None:
    limits, need = limits_of(budget=Amounts(None, None, 10)), Amounts(0, 0, 6)
    for name in ("a", "b"):
        limits.register(0.0, name, NOTHING, None)
    assert limits.more(0.0, "a", need, need, is_idle=False)[0] == need
    assert limits.more(1.0, "b", need, need, is_idle=True) == (None, True)  # the other one is at work
    assert limits.more(2.0, "a", need, need, is_idle=True) == (None, False)
    assert limits.more(3.0, "b", need, need, is_idle=True) == (None, False)
    limits.leave("a", Amounts(0, 0, 2))  # less than it had
    assert limits.more(4.0, "b", need, need, is_idle=True)[0] == need
