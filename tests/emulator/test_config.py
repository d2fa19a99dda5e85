"""What an emulator can be set to, and what is refused."""

from collections import Counter

import pytest

from pipeline.emulator.chance import choose_fault, delay_ms
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.faults import Fault, parse_faults
from pipeline.emulator.limits import LimitKind
from pipeline.emulator.schedule import LatencyStep, Outage
from pipeline.errors import InputError


def test_faults_are_written_as_name_and_rate() -> None:
    """`--fault 500=0.03` names a fault and its share."""
    assert parse_faults(["500=0.03", "disconnect=1"]) == {Fault.SERVER_ERROR: 0.03, Fault.DISCONNECT: 1.0}


def test_an_unknown_fault_names_the_known_ones() -> None:
    """A wrong name is answered with the nearest one and all the others."""
    with pytest.raises(InputError, match="'disconect'; did you mean 'disconnect'") as raised:
        parse_faults(["disconect=0.1"])
    assert all(fault in str(raised.value) for fault in Fault)


@pytest.mark.parametrize("setting", ["500", "500=", "500=often"])
def test_a_fault_without_a_rate_is_refused(setting: str) -> None:
    """The message shows how it is written."""
    with pytest.raises(InputError, match="expected NAME=RATE"):
        parse_faults([setting])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"faults": {Fault.EMPTY: 1.5}}, "'empty': the rate 1.5"),
        ({"faults": {Fault.EMPTY: float("nan")}}, "the rate nan"),
        ({"faults": {Fault.EMPTY: 0.6, Fault.SLOW: 0.6}}, "add up to 1.2"),
        ({"rpm": 0}, "rpm must be more than 0"),
        ({"burst": 0}, "burst must be more than 0"),
        ({"latency_ms": -1}, "latency_ms must not be negative"),
        ({"tpm": float("inf")}, "tpm must be more than 0"),
        ({"slots": 0}, "slots must be more than 0"),
        ({"thrash": 1}, "thrash needs slots"),
        ({"queue": 1}, "queue needs slots"),
        ({"queue": -1, "slots": 1}, "queue must not be negative"),
        ({"goes_bad_after": -1}, "goes_bad_after must not be negative"),
        ({"rpm": 0.5, "limit_kind": LimitKind.FIXED}, "rpm must be a whole number with limit kind fixed"),
        ({"outages": (Outage(5, 1), Outage(2, 1))}, "each outage must begin after the end"),
        ({"outages": (Outage(5, 0),)}, "an outage must be longer"),
        ({"latency_schedule": (LatencyStep(5, 1), LatencyStep(5, 2))}, "must follow each other"),
    ],
)
def test_values_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    """Each message names the value."""
    with pytest.raises(InputError, match=words):
        EmulatorConfig(**options)  # type: ignore[arg-type]  # wrong values are the point


def test_the_key_is_not_part_of_the_representation() -> None:
    """A configuration that is logged does not show its key."""
    assert "sk-secret" not in repr(EmulatorConfig(api_key="sk-secret"))


def test_faults_depend_on_seed_and_number_alone() -> None:
    """The same seed shows the same faults at the same requests; another seed others."""
    rates = {Fault.SERVER_ERROR: 0.3, Fault.EMPTY: 0.2}
    first = [choose_fault(rates, 7, number) for number in range(1000)]
    assert first == [choose_fault(rates, 7, number) for number in range(1000)]
    assert first != [choose_fault(rates, 8, number) for number in range(1000)]
    assert Counter(first) == {None: 513, Fault.SERVER_ERROR: 306, Fault.EMPTY: 181}


def test_rates_that_add_up_to_one_leave_no_request_in_peace() -> None:
    """Binary fractions do not let one request in a billion slip through."""
    rates = {Fault.SERVER_ERROR: 0.1, Fault.EMPTY: 0.2, Fault.SLOW: 0.7}
    assert None not in {choose_fault(rates, 0, number) for number in range(1000)}


def test_jitter_stays_within_its_bounds_and_repeats() -> None:
    """Between latency and latency + jitter, the same for the same request."""
    delays = [delay_ms(100, 50, 3, number) for number in range(500)]
    assert delays == [delay_ms(100, 50, 3, number) for number in range(500)]
    assert all(100 <= delay < 150 for delay in delays)
    assert len(set(delays)) == 500
