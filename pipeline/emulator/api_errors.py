"""Errors as OpenAI words and codes them; how other providers put the same is `error_styles`' to say."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.emulator.faults import Fault
from pipeline.emulator.headers import go_duration, plain


class ApiError(Exception):
    """An error response in OpenAI's shape: `{"error": {message, type, param, code}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class LimitError(ApiError):
    """A rate limit's refusal. `limit` names it: `requests`, `tokens`, `too_large` (for a whole minute), or `fault`."""

    def __init__(self, limit: str, message: str, *, kind: str, headers: Mapping[str, str]) -> None:
        super().__init__(429, message, code="rate_limit_exceeded", kind=kind, headers=headers)
        self.limit = limit


def unsupported_image(param: str) -> ApiError:
    """The answer to an image in a format that is not taken."""
    return ApiError(
        400,
        "You uploaded an unsupported image. "
        "Please make sure your image has of one the following formats: ['png', 'jpeg', 'gif', 'webp'].",
        code="invalid_image_format",
        param=param,
    )


def unreadable_image(param: str, why: str) -> ApiError:
    """The answer to an image that cannot be decoded."""
    return ApiError(
        400,
        f"You uploaded an unsupported image. Please make sure your image is valid. ({why})",
        code="image_parse_error",
        param=param,
    )


def no_data_url(param: str, got: str) -> ApiError:
    return _no_data("image URL", param, "with an image MIME type", "image/png;base64,aW1nIGJ5dGVzIGhlcmU=", got)


def no_pdf(param: str, got: str) -> ApiError:
    return _no_data("file data", param, "of a PDF", "application/pdf;base64,JVBERi0xLjcK", got)


def _no_data(what: str, param: str, of: str, example: str, got: str) -> ApiError:
    words = f"Expected a base64-encoded data URL {of} (e.g. 'data:{example}'), but got {got}."
    return ApiError(400, f"Invalid {what}: '{param}'. {words}", code="invalid_value", param=param)


def missing(param: str) -> ApiError:
    return ApiError(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def invalid_type(param: str, expected: str, got: object) -> ApiError:
    return ApiError(
        400,
        f"Invalid type for '{param}': expected {expected}, but got {type(got).__name__} instead.",
        code="invalid_type",
        param=param,
    )


def invalid_value(param: str, got: object, known: Sequence[str]) -> ApiError:
    supported = ", ".join(f"'{name}'" for name in known)
    return ApiError(
        400,
        f"Invalid value: '{str(got)[:100]}'. Supported values are: {supported}.",
        code="invalid_value",
        param=param,
    )


def body_too_large(limit_bytes: int) -> ApiError:
    return ApiError(413, f"Maximum content size limit ({limit_bytes}) exceeded.", code="request_too_large")


def unrouted(status: int, method: str, path: str) -> ApiError:
    """A path or a method that the endpoint does not have."""
    return ApiError(status, f"Invalid URL ({method} {path})")


def no_key() -> ApiError:
    return ApiError(401, "You didn't provide an API key.")


def wrong_key() -> ApiError:
    return ApiError(401, "Incorrect API key provided: ***.", code="invalid_api_key")


def overloaded() -> ApiError:
    return ApiError(
        503, "The engine is currently overloaded, please try again later.", kind="service_unavailable_error"
    )


def server_error() -> ApiError:
    return ApiError(
        500, "The server had an error while processing your request. Sorry about that!", kind="server_error"
    )


def no_capacity() -> ApiError:
    """A service tier without room for now (OpenAI, "Flex processing"): nothing is charged."""
    message = "Resource Unavailable: this service tier has no capacity at the moment. Please try again later."
    return ApiError(429, message, code="resource_unavailable", kind="resource_unavailable")


def prompt_blocked() -> ApiError:
    """A prompt in which the provider's filter has found something."""
    message = (
        "The response was filtered due to the prompt triggering the provider's content management policy. "
        "Please modify your prompt and retry."
    )
    return ApiError(400, message, code="content_filter", param="prompt", kind=None)


def early_error(fault: Fault | None, retry_after: Mapping[str, str]) -> ApiError | None:
    """The error that a fault shows before a request is looked at; `retry_after` are the headers of its 429."""
    if fault is Fault.RATE_LIMITED:
        return LimitError("fault", "Rate limit reached.", kind="requests", headers=retry_after)
    if fault is Fault.RATE_LIMITED_BARE:
        return LimitError("fault", "Rate limit reached.", kind="requests", headers={})
    if fault is Fault.INSUFFICIENT_QUOTA:
        message = "You exceeded your current quota, please check your plan and billing details."
        return ApiError(429, message, code="insufficient_quota", kind="insufficient_quota")
    if fault is Fault.BAD_KEY:
        return wrong_key()
    if fault is Fault.SERVER_ERROR:
        return server_error()
    return overloaded() if fault is Fault.OVERLOADED else None


def requests_limited(per_minute: float, wait_ns: int, retry_after: Mapping[str, str]) -> LimitError:
    """No room for another request."""
    message = (
        f"Rate limit reached on requests per min (RPM): Limit {plain(per_minute)}. "
        f"Please try again in {go_duration(wait_ns)}."
    )
    return LimitError("requests", message, kind="requests", headers=retry_after)


def tokens_limited(
    model: str, per_minute: float, requested: int, wait_ns: int, retry_after: Mapping[str, str]
) -> LimitError:
    """The request's tokens exceed the rest of the limit."""
    message = (
        f"Rate limit reached for {model} on tokens per min (TPM): Limit {plain(per_minute)}, "
        f"Requested {requested}. Please try again in {go_duration(wait_ns)}."
    )
    return LimitError("tokens", message, kind="tokens", headers=retry_after)


def too_many_at_once(slots: int) -> LimitError:
    """All slots are taken, and the queue is full."""
    message = f"Too many concurrent requests: at most {slots} are worked on at a time."
    return LimitError("slots", message, kind="requests", headers={})


def more_than_a_minute(model: str, per_minute: float, requested: int) -> LimitError:
    """A request that no waiting helps."""
    message = (
        f"Request too large for {model} on tokens per min (TPM): Limit {plain(per_minute)}, Requested {requested}."
    )
    return LimitError("too_large", message, kind="tokens", headers={})
