"""Throttles of one endpoint: which are chance, and whose places are kept."""

from pipeline.engine.stages import RequestState
from pipeline.engine.throttles import FEW, RARE, RECENT, Throttles
from tests.engine.test_state import START, request_of


def throttles(results: str) -> Throttles:
    """After these results: `t` is a throttle, `a` an answer."""
    made = Throttles("here")
    for number, result in enumerate(results):
        if result == "t":
            made.add(RequestState(request_of(number), START))
        else:
            made.answered(())
    return made


def test_what_chance_would_throttle_is_rare() -> None:
    """Ten of the last hundred where each states a wait; ten of the last forty where none does."""
    few = throttles("t" * RARE + "a" * (FEW - RARE))
    assert few.are_rare(have_wait=False)
    assert few.are_rare(have_wait=True)
    long_ago = throttles("t" * (RARE + 1) + "a" * (FEW - RARE))
    assert long_ago.are_rare(have_wait=False)  # one of them is no longer among the last forty
    assert not long_ago.are_rare(have_wait=True)
    assert throttles("t" * (RARE + 1) + "a" * (RECENT - RARE)).are_rare(have_wait=True)


def test_the_place_of_a_single_throttle_is_free_at_once() -> None:
    after_one = throttles("at")
    after_one.keep_place(20.0)
    assert after_one.free_at(10.0, places=1) == 10.0


def test_places_of_throttles_in_a_row_are_kept() -> None:
    """Until their answers would have come; an answer in between begins a new row."""
    after_two = throttles("tt")
    after_two.keep_place(20.0)
    after_two.keep_place(21.0)
    assert after_two.free_at(10.0, places=3) == 10.0
    assert after_two.free_at(10.0, places=2) == 20.0
    assert after_two.free_at(20.0, places=1) == 21.0
    assert after_two.free_at(21.0, places=1) == 21.0
    after_two.answered(())
    after_two.keep_place(30.0)
    assert after_two.free_at(22.0, places=1) == 22.0
