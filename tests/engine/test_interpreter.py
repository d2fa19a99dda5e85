"""What a run sets in the interpreter is as it was when it is over."""

import gc
import sys
from collections.abc import Iterator

import pytest

from pipeline.engine.interpreter import rare_searches, rare_switches


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, turn_s = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*before)
    sys.setswitchinterval(turn_s)


@pytest.mark.parametrize(("own", "within"), [(700, 5_000), (50_000, 50_000), (0, 0)])
def test_searches_are_rare_while_a_run_goes_on(own: int, within: int) -> None:
    """Proves that the caller's own thresholds come back, also after an error, and count where they are larger."""
    gc.set_threshold(own, 11, 12)

    def fails() -> None:
        with rare_searches():
            assert gc.get_threshold() == (within, 11, 12)
            assert gc.get_freeze_count() > 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert gc.get_threshold() == (own, 11, 12)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(("own_s", "within_s"), [(0.005, 0.05), (0.2, 0.2)])
def test_switches_are_rare_while_a_run_goes_on(own_s: float, within_s: float) -> None:
    """Proves the same of how long a thread keeps the interpreter."""
    sys.setswitchinterval(own_s)
    with rare_switches():
        assert sys.getswitchinterval() == pytest.approx(within_s, abs=1e-4)
    assert sys.getswitchinterval() == pytest.approx(own_s, abs=1e-4)
