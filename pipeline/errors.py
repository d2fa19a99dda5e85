"""What can go wrong, in two forms.

A record that fails is a *value*: its `ErrorKind` ends up in the row. An *exception* stops the run:

    VisionBatchError             exit
     ├── InputError                2   the command, the configuration or the manifest is wrong
     │    └── OutInUseError        2   another run holds this output directory
     ├── BudgetReachedError        3   the budget or the time is used up
     ├── EndpointStoppedError      4   the endpoint refuses everything: key, quota, model, address
     ├── ResourceError             5   something local failed: disk, permission, ledger
     │    ├── DamagedLedgerError   5   the ledger cannot be read as it was written
     │    └── BucketError          5   the object store that OUT lies in fails (LeaseLostError: another run has it)
     └── InterruptedRunError     130   a signal asked for the end (143: SIGTERM)

Every message names what is wrong, where, and the way out; none holds a key.
"""

from enum import StrEnum
from typing import Self


class ErrorKind(StrEnum):
    """Why a record has no good answer: the column `error_kind`.

    A kind is its name, its cause, and the way out. `docs/errors.md` is made from them.
    """

    cause: str
    way_out: str

    def __new__(cls, value: str, cause: str = "", way_out: str = "") -> Self:
        """The value is the text in rows; cause and way out are for people."""
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.cause, kind.way_out = cause, way_out
        return kind

    IMAGE_MISSING = (
        "image_missing",
        "There is no file of this name; or the host or the object store says so (HTTP 404 or 410).",
        "Correct the manifest, or bring the image back.",
    )
    IMAGE_EMPTY = (
        "image_empty",
        "The file has no bytes.",
        "Copy or download it again.",
    )
    IMAGE_FORBIDDEN = (
        "image_forbidden",
        "The file is outside the source's folder, perhaps by a link, and `source.confine` is on.",
        "Copy the image into the folder, or leave `source.confine` out.",
    )
    IMAGE_UNREADABLE = (
        "image_unreadable",
        "The file cannot be read or decoded: permission, damage, a password, a directory.",
        "The message says which. Replace the file, or change its permissions.",
    )
    IMAGE_TRUNCATED = (
        "image_truncated",
        "The file ends before the image does.",
        "Copy or download it again.",
    )
    IMAGE_UNSUPPORTED = (
        "image_unsupported",
        "The bytes are no image of a format that is read, or the address has a scheme that is not.",
        "The message names the format. Convert the file, or install the extra that the message names.",
    )
    IMAGE_BOMB = (
        "image_bomb",
        "The image has more pixels than `images.max_megapixels` allows. It was not decoded.",
        "Raise `images.max_megapixels` where the image is meant.",
    )
    IMAGE_TOO_LARGE = (
        "image_too_large",
        "The file, or the memory that decoding it takes, is over a limit. It was not decoded.",
        "Raise the setting in the message: `images.max_file_mb` or `images.max_decoded_mb`.",
    )
    DECODER_CRASHED = (
        "decoder_crashed",
        "Decoding ended a run or took longer than `images.decode_timeout_s`, and again in a process of its own.",
        "Replace or convert the file. Raise `images.decode_timeout_s` where it is large, and the machine slow.",
    )
    FETCH_FAILED = (
        "fetch_failed",
        "The image's host cannot be reached, or the connection broke before the whole image had come.",
        "Run again; check name and network if it stays.",
    )
    FETCH_FORBIDDEN = (
        "fetch_forbidden",
        "The address, or one that it redirects to, is of a private network or of this machine.",
        "Set `source.allow_private_hosts` where the manifest is trusted.",
    )
    FETCH_TIMEOUT = (
        "fetch_timeout",
        "The image's host did not send the whole image in time (`endpoint.timeout_s`).",
        "Run again; lower `source.per_host` where the host is slow under load.",
    )
    FETCH_STATUS = (
        "fetch_status",
        "The image's host answered with an HTTP error (403, 429, 500, ...), or denied access.",
        "The message holds the status. Renew signed addresses; lower `source.per_host` after 429; run again.",
    )
    FETCH_TOO_LARGE = (
        "fetch_too_large",
        "The remote file has more bytes than `images.max_file_mb` allows. The rest was not fetched.",
        "Raise `images.max_file_mb` where the file is meant.",
    )

    RATE_LIMITED = (
        "rate_limited",
        "The endpoint rejected this record for its rate limits (429) time after time, and answered others.",
        "Run again; lower `limits.rpm` or `limits.tpm` if it stays.",
    )
    REQUEST_EXCEEDS_LIMIT = (
        "request_exceeds_limit",
        "One request needs more tokens than the endpoint grants in a minute.",
        "Send smaller images (`images.max_image_tokens`), a shorter prompt, or ask for a higher limit.",
    )
    OVERLOADED = (
        "overloaded",
        "The endpoint had no capacity (503, 529) until the record was given up.",
        "Run again, later.",
    )
    SERVER_ERROR = (
        "server_error",
        "The endpoint failed with HTTP 5xx at every attempt at this record.",
        "Run again; look at the server's log if it stays.",
    )
    TIMEOUT = (
        "timeout",
        "The endpoint did not answer within `endpoint.timeout_s`, or its gateway gave up.",
        "Run again; raise `endpoint.timeout_s` for a slow model.",
    )
    CONNECTION = (
        "connection",
        "The connection to the endpoint broke in the middle of a request.",
        "Run again.",
    )
    UNREACHABLE = (
        "unreachable",
        "No connection to the endpoint: name, network, TLS or proxy.",
        "Correct `endpoint.base_url`, the proxy or the certificates; the command `check` tests it.",
    )
    INVALID_RESPONSE = (
        "invalid_response",
        "The response is not what the API promises: no JSON, no choices, cut short.",
        "Run again; check that `endpoint.api` fits the server if it stays.",
    )
    EMPTY_ANSWER = (
        "empty_answer",
        "The model answered without any text, twice.",
        "Another prompt or model.",
    )
    IMAGE_IGNORED = (
        "image_ignored",
        "The bill shows that the endpoint did not pass the image to the model.",
        "Choose a model that takes images; the command `check` tests it.",
    )
    BAD_REQUEST = (
        "bad_request",
        "The endpoint rejected this record's request (400): its image or its text.",
        "The message holds the endpoint's words.",
    )
    REQUEST_TOO_LARGE = (
        "request_too_large",
        "The request has more bytes or more images than the endpoint takes.",
        "Send smaller or fewer images: `images.max_image_tokens`, `images.max_side`, `images.frames`.",
    )
    CONTENT_FILTER = (
        "content_filter",
        "A filter of the provider stopped the request or the answer. The status is `refused`.",
        "Another prompt or provider, where the image is harmless.",
    )
    REFUSED = (
        "refused",
        "The model declined to answer. The status is `refused`.",
        "Another prompt or model, where the image is harmless.",
    )
    REASONING_EXHAUSTED = (
        "reasoning_exhausted",
        "The model used up `request.max_tokens` with its thoughts, and wrote no answer.",
        "Raise `request.max_tokens`, or lower `request.reasoning_effort`.",
    )
    HOOK_FAILED = (
        "hook_failed",
        "A hook of yours failed this record.",
        "The message is the hook's.",
    )
    LABELS_INVALID = (
        "labels_invalid",
        "The labels do not fit the schema, also after they were asked for once more. The status is `invalid`.",
        "Simplify the schema, or explain its fields in the prompt.",
    )
    FORMAT_REJECTED = (
        "format_rejected",
        "The endpoint takes no schema in the way in which it was sent.",
        "Set `request.labels_mode`.",
    )
    PARAMETER_REJECTED = (
        "parameter_rejected",
        "The endpoint does not take a parameter of the request. The run stops.",
        "Leave the parameter out, or set `request.adapt`.",
    )

    AUTHENTICATION = (
        "authentication",
        "The endpoint, or a proxy, does not accept the key or login. The run stops.",
        "Correct the key (`endpoint.api_key_env`); the same command goes on.",
    )
    PERMISSION = (
        "permission",
        "The key may not use this model or endpoint (403). The run stops.",
        "Grant it in the provider's console; the same command goes on.",
    )
    QUOTA_EXHAUSTED = (
        "quota_exhausted",
        "The account has no credit or quota left. The run stops.",
        "Add credit; the same command goes on.",
    )
    MODEL_NOT_FOUND = (
        "model_not_found",
        "The endpoint does not serve this model, or has no such path. The run stops.",
        "Correct `request.model` or `endpoint.base_url`; the command `models` lists names.",
    )


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


class BucketError(ResourceError):
    """The object store that OUT lies in does not answer, or denies. Answers are safe in the state directory."""

    answers_are_saved = True
    is_transient = True
    """Whether the same request may succeed a moment later."""


class LeaseLostError(BucketError):
    """Another run has taken over an OUT in a bucket: this one uploads nothing more."""

    is_transient = False


class CallbackError(VisionBatchError):
    """A function that the caller gave (`on_progress`, `on_note`) has failed; its exception is the cause."""


class InterruptedRunError(VisionBatchError):
    """A signal asked for the end: requests in flight have finished, and committed answers are safe."""

    exit_code = 130

    def __init__(self, message: str, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
