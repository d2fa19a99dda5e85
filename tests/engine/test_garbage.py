"""Searches for garbage are rare while a run goes on, and as they were when it is over."""

import gc
from collections.abc import Iterator

import pytest

from pipeline.engine.garbage import rare_searches


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


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
