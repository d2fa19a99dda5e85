"""When endings are alike enough to stop a run."""

from pipeline.limits.health import Health


def test_the_first_twenty_alike() -> None:
    """Twenty records, twenty times the same kind: the twentieth tells."""
    health = Health()
    assert [health.add("bad_request") for _ in range(20)] == [None] * 19 + ["bad_request"]


def test_one_good_answer_among_the_first() -> None:
    """One good answer among the first twenty, and the request cannot be wrong as such."""
    health = Health()
    endings = ["bad_request"] * 10 + [None] + ["bad_request"] * 9
    assert {health.add(kind) for kind in endings} == {None}


def test_a_request_that_was_answered_before() -> None:
    """Twenty refusals prove nothing where others had good answers to the same question; more than half of 200 do."""
    health = Health(has_answers=True)
    told = [health.add("bad_request") for _ in range(200)]
    assert told == [None] * 199 + ["bad_request"]


def test_more_than_half_of_the_last_two_hundred() -> None:
    """A model that goes bad after a thousand good answers is noticed when 101 of 200 fail alike."""
    health = Health()
    for _ in range(1000):
        assert health.add(None) is None
    told = [health.add("empty_answer") for _ in range(101)]
    assert told == [None] * 100 + ["empty_answer"]


def test_different_failures_are_not_alike() -> None:
    """Half of the records fail, each half of those in its own way: no reason to stop."""
    health = Health()
    for number in range(1000):
        assert health.add(["refused", None, "bad_request", None][number % 4]) is None
