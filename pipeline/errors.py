"""What can go wrong, in two forms.

A record that fails is a *value*: its `ErrorKind` ends up in the row. An *exception* stops the run:

    VisionBatchError             exit
     ├── InputError                2   the command, the configuration or the manifest is wrong
     │    └── OutInUseError        2   another run holds this output directory
     ├── BudgetReachedError        3   the budget or the time is used up
     ├── EndpointStoppedError      4   the endpoint refuses everything: key, quota, model, address
     ├── ResourceError             5   something local failed: disk, permission, ledger
     │    └── DamagedLedgerError   5   the ledger cannot be read as it was written
     └── InterruptedRunError     130   a signal asked for the end (143: SIGTERM)

Every message names what is wrong, where, and the way out; none holds a key.
"""

from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a record has no good answer: the column `error_kind`."""

    IMAGE_MISSING = "image_missing"
    IMAGE_EMPTY = "image_empty"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_UNSUPPORTED = "image_unsupported"
    IMAGE_BOMB = "image_bomb"
    IMAGE_TOO_LARGE = "image_too_large"
    FETCH_FAILED = "fetch_failed"

    RATE_LIMITED = "rate_limited"
    REQUEST_EXCEEDS_LIMIT = "request_exceeds_limit"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    UNREACHABLE = "unreachable"
    INVALID_RESPONSE = "invalid_response"
    EMPTY_ANSWER = "empty_answer"
    IMAGE_IGNORED = "image_ignored"
    BAD_REQUEST = "bad_request"
    REQUEST_TOO_LARGE = "request_too_large"
    CONTENT_FILTER = "content_filter"
    REFUSED = "refused"
    REASONING_EXHAUSTED = "reasoning_exhausted"
    HOOK_FAILED = "hook_failed"
    LABELS_INVALID = "labels_invalid"
    FORMAT_REJECTED = "format_rejected"
    PARAMETER_REJECTED = "parameter_rejected"

    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    QUOTA_EXHAUSTED = "quota_exhausted"
    MODEL_NOT_FOUND = "model_not_found"


class VisionBatchError(Exception):
    """Stops a run with one clear line; `exit_code` is what the command line returns."""

    exit_code = 70
    summary: object | None = None
    """What the run did until then (a `RunSummary`), where one had begun."""

    def __str__(self) -> str:
        """Each argument is a line of its own; a line break within one came from outside."""
        return "\n".join(map(str, self.args))


class InputError(VisionBatchError):
    """The command, the configuration or the manifest is wrong; nothing was sent."""

    exit_code = 2


class OutInUseError(InputError):
    """Another run holds this output directory."""


class BudgetReachedError(VisionBatchError):
    """The budget or the time is used up; the same command with more of it goes on."""

    exit_code = 3

    def __init__(self, message: str, *, what: str = "", budget: str = "", need: int = 0) -> None:
        """`what` (nano_usd, tokens, requests, time) is used up; its budget, and how much a request needs."""
        super().__init__(message)
        self.what, self.budget, self.need = what, budget, need


class EndpointStoppedError(VisionBatchError):
    """The endpoint refuses every request alike. Answers are committed."""

    exit_code = 4


class ResourceError(VisionBatchError):
    """A local resource failed: disk, permission, ledger. Committed answers are safe."""

    exit_code = 5
    answers_are_saved = False
    """Whether answers that the ledger cannot take go to a file beside it: then what is in flight may come home."""


class DamagedLedgerError(ResourceError):
    """The ledger cannot be read as it was written; `vision-batch rebuild` makes a new one."""


class InterruptedRunError(VisionBatchError):
    """A signal asked for the end: requests in flight have finished, and committed answers are safe."""

    exit_code = 130

    def __init__(self, message: str, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
