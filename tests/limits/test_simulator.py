"""A short form of the simulation: one seed, four minutes, a few endpoints."""

import pytest

from tests.limits.driver import Scheduled
from tests.limits.simulator import SCENARIOS, Scenario, row


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.in_short], ids=lambda each: each.name)
def test_the_scheduler_uses_an_endpoint_nearly_whole(scenario: Scenario) -> None:
    """Proves that from the third minute on at least 85 % of the best fixed setting's answers come, that no good record
    is lost, that a poison record is sent ten times at most, and that throttles are rare. `make simulate` is the long
    form.
    """
    found = row(scenario, Scheduled, [1], 4.0)
    assert found.share >= 0.85
    assert found.throttles <= 0.1
    assert found.settled_s is not None
    assert found.settled_s <= scenario.settled_s
    assert (found.lost, found.stopped) == (0, None)
    assert found.tries <= 10
