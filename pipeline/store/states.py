"""Status and kind of error of a record as one small number, which is what the ledger stores."""

from pipeline.errors import ErrorKind
from pipeline.records import Status, has_no_text

# These numbers are stored: new statuses and kinds are added at the end, none is ever changed.
_STATUS_CODES = {
    Status.OK: 1,
    Status.TRUNCATED: 2,
    Status.REFUSED: 3,
    Status.INVALID: 4,
    Status.FAILED: 5,
}
_KIND_CODES = {
    ErrorKind.IMAGE_MISSING: 1,
    ErrorKind.IMAGE_UNREADABLE: 2,
    ErrorKind.IMAGE_TRUNCATED: 3,
    ErrorKind.IMAGE_UNSUPPORTED: 4,
    ErrorKind.IMAGE_BOMB: 5,
    ErrorKind.IMAGE_TOO_LARGE: 6,
    ErrorKind.FETCH_FAILED: 7,
    ErrorKind.RATE_LIMITED: 8,
    ErrorKind.REQUEST_EXCEEDS_LIMIT: 9,
    ErrorKind.OVERLOADED: 10,
    ErrorKind.SERVER_ERROR: 11,
    ErrorKind.TIMEOUT: 12,
    ErrorKind.CONNECTION: 13,
    ErrorKind.UNREACHABLE: 14,
    ErrorKind.INVALID_RESPONSE: 15,
    ErrorKind.EMPTY_ANSWER: 16,
    ErrorKind.IMAGE_IGNORED: 17,
    ErrorKind.BAD_REQUEST: 18,
    ErrorKind.REQUEST_TOO_LARGE: 19,
    ErrorKind.CONTENT_FILTER: 20,
    ErrorKind.REFUSED: 21,
    ErrorKind.REASONING_EXHAUSTED: 22,
    ErrorKind.AUTHENTICATION: 23,
    ErrorKind.PERMISSION: 24,
    ErrorKind.QUOTA_EXHAUSTED: 25,
    ErrorKind.MODEL_NOT_FOUND: 26,
    ErrorKind.LABELS_INVALID: 27,
    ErrorKind.FORMAT_REJECTED: 28,
    ErrorKind.HOOK_FAILED: 29,
    ErrorKind.PARAMETER_REJECTED: 30,
    ErrorKind.FETCH_FORBIDDEN: 41,
    ErrorKind.FETCH_TIMEOUT: 42,
    ErrorKind.FETCH_STATUS: 43,
    ErrorKind.FETCH_TOO_LARGE: 44,
    ErrorKind.IMAGE_FORBIDDEN: 45,
    ErrorKind.DECODER_CRASHED: 46,
    ErrorKind.IMAGE_EMPTY: 51,
}
_STATUS_OF = {code: status for status, code in _STATUS_CODES.items()}
_KIND_OF = {code: kind for kind, code in _KIND_CODES.items()}


def state_code(status: Status, kind: ErrorKind | None) -> int:
    """Status and kind as the number that the ledger stores for a record."""
    return _STATUS_CODES[status] + (8 * _KIND_CODES[kind] if kind is not None else 0)


def state_of(code: int) -> tuple[Status, ErrorKind | None]:
    """The inverse of `state_code`."""
    return _STATUS_OF[code % 8], _KIND_OF.get(code // 8)


def has_no_answer(status: Status, kind: ErrorKind | None) -> bool:
    """Whether a row of this state has nothing to lose; an invalid one has its text, and so one that a hook failed."""
    return (status is Status.FAILED and kind is not ErrorKind.HOOK_FAILED) or has_no_text(status, kind)
