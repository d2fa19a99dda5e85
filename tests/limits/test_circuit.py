"""Pauses as arithmetic: how long, in rounds, and what ends them."""

import pytest

from pipeline.limits.circuit import Circuit, PauseReason

BUSY, AWAY = PauseReason.THROTTLED, PauseReason.UNREACHABLE


def opened(at: float, stated_s: float | None = None, reason: PauseReason = BUSY) -> Circuit:
    circuit = Circuit()
    circuit.open(at, reason, stated_s, at)
    return circuit


def test_failures_within_a_pause_are_one_round() -> None:
    """Thirty requests that are throttled together double nothing; the next round is twice as long."""
    circuit = opened(100.0)
    assert (circuit.until, circuit.rounds) == (101.0, 1)
    assert not circuit.open(100.5, BUSY, None, 100.2)
    assert (circuit.until, circuit.rounds) == (101.5, 1)
    assert circuit.open(101.5, BUSY, None, 101.5)
    assert (circuit.until, circuit.rounds, circuit.since) == (103.5, 2, 100.0)


def test_what_the_endpoint_states_counts() -> None:
    """A stated wait replaces our own, and a shorter one never shortens a longer one."""
    circuit = opened(0.0, 90.0)
    assert circuit.until == 90.0
    circuit.open(1.0, BUSY, 2.0, 0.5)
    assert circuit.until == 90.0


def test_own_pauses_are_bounded() -> None:
    """Without a stated wait the pause doubles to a minute, and no further."""
    circuit, now = Circuit(), 0.0
    for _ in range(30):
        circuit.open(now, BUSY, None, now)
        assert circuit.until - now <= 60.0
        now = circuit.until
    assert circuit.rounds == 30


@pytest.mark.parametrize("reason", PauseReason)
def test_only_a_later_request_closes_it(reason: PauseReason) -> None:
    """The answer to a request that was sent before the failure shows nothing about now."""
    circuit = opened(10.0, 5.0, reason)
    assert not circuit.is_closed_by(9.0)
    assert circuit.is_closed_by(15.0)
    assert not Circuit().is_closed_by(15.0)


def test_half_open_is_one_request() -> None:
    """Once the pause is over one goes, and the others wait for it for ten seconds; a failure begins another round."""
    circuit = opened(0.0)
    assert circuit.ready_at == 1.0
    circuit.probe(1.0, 10.0)
    assert circuit.ready_at == 11.0
    circuit.open(1.2, BUSY, None, 1.0)
    assert circuit.ready_at == 3.2
    circuit.close(2.0)
    assert (circuit.reason, circuit.ready_at) == (None, float("-inf"))


def test_another_reason_shortens_no_pause() -> None:
    """It begins its own rounds; the time that was stated and the first failure stay."""
    circuit = opened(0.0, 60.0)
    circuit.open(5.0, AWAY, None, 4.0)
    assert (circuit.reason, circuit.until, circuit.rounds, circuit.since) == (AWAY, 60.0, 1, 0.0)


def test_one_more_try_at_the_end_of_the_wait() -> None:
    """A pause of our own is cut to the moment in which the patience ends; a stated one is not."""
    circuit = Circuit()
    for now in (0.0, 1.0, 3.0, 7.0):
        circuit.open(now, AWAY, None, now, most_s=10.0)
    assert circuit.until == 10.0
    circuit.open(10.0, AWAY, 30.0, 10.0, most_s=10.0)
    assert circuit.until == 40.0


def test_a_pause_goes_on_while_the_machine_sleeps() -> None:
    """Fifty minutes of sleep shorten a pause of an hour to ten minutes, and never to before the failure."""
    circuit = opened(0.0, 3600.0)
    circuit.slept(3000.0)
    assert circuit.until == 600.0
    circuit.slept(86_400.0)
    assert circuit.until == 0.0
