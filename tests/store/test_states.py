"""Status and kind of error as one stored number."""

from pipeline.errors import ErrorKind
from pipeline.records import Status
from pipeline.store.states import state_code, state_of


def test_every_state_has_a_code_of_its_own() -> None:
    """Proves that each status and kind has a stored number, that none collide, and that all come back."""
    states = [(status, kind) for status in Status for kind in (None, *ErrorKind)]
    codes = [state_code(status, kind) for status, kind in states]
    assert len(set(codes)) == len(states)
    assert [state_of(code) for code in codes] == states


def test_stored_codes_do_not_move() -> None:
    """Proves that ledgers written earlier still mean the same: samples of the numbers, pinned."""
    assert state_code(Status.OK, None) == 1
    assert state_code(Status.FAILED, ErrorKind.IMAGE_MISSING) == 13
    assert state_code(Status.FAILED, ErrorKind.TIMEOUT) == 101
    assert state_code(Status.REFUSED, ErrorKind.MODEL_NOT_FOUND) == 211
