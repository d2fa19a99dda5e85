"""When a record that is refused again and again is to blame itself."""

import pytest

from pipeline.limits.refusals import FEW, MOST, MOST_TIMES, Refusals


@pytest.mark.parametrize(
    ("meanwhile", "enough"),
    [
        (Refusals(10, 0, 15), MOST),  # it alone is refused
        (Refusals(4, 0, 16), FEW),  # beside many answers
        (Refusals(4, 1, 16), MOST),  # somebody else was refused, and answered since
        (Refusals(110, 90, 100), 2 * MOST - 1),  # the others once an answer
        (Refusals(10_000, 9_000, 100), MOST * MOST_TIMES),  # often, but not for ever
    ],
)
def test_how_often_is_too_often(meanwhile: Refusals, enough: int) -> None:
    """The more the others are refused, the more refusals prove nothing; where they never are, four do."""
    assert not meanwhile.blame(enough - 1)
    assert meanwhile.blame(enough)


def test_what_happened_since() -> None:
    """Counts of a span, and whether refusals are usual in it: a quarter of the answers came after one."""
    assert Refusals(12, 7, 30).since(Refusals(2, 4, 10)) == (10, 3, 20)
    assert Refusals(10, 5, 20).are_usual
    assert not Refusals(10, 4, 20).are_usual
    assert not Refusals(3, 0, 0).are_usual
