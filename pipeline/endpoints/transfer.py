"""What came of a transfer that brought no response to read."""

from typing import Final

from pipeline.errors import ErrorKind
from pipeline.http.errors import failure_of
from pipeline.records import Failure
from pipeline.redaction.redactor import Redactor

MAX_ANSWER_BYTES: Final = 16 << 20


def too_long(status: int) -> Failure:
    """A body of more than `MAX_ANSWER_BYTES`."""
    message = f"HTTP {status} with more than {MAX_ANSWER_BYTES:,} bytes, which is no answer"
    return Failure(kind=ErrorKind.INVALID_RESPONSE, message=message, status=status)


def network_failure(error: Exception, redactor: Redactor) -> Failure:
    """What an exception of the network means. Raises the exception where it is a bug of ours."""
    failure = failure_of(error, redactor)
    if failure is None:
        raise error
    return failure
