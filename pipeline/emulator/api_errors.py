"""Errors as OpenAI words and codes them."""

from collections.abc import Mapping, Sequence

from pipeline.emulator.bucket import Grant, go_duration
from pipeline.emulator.config import Fault


class ApiError(Exception):
    """An error response in OpenAI's shape: `{"error": {message, type, param, code}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


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
    return ApiError(
        400,
        f"Invalid image URL: '{param}'. Expected a base64-encoded data URL with an image MIME type "
        f"(e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got {got}.",
        code="invalid_value",
        param=param,
    )


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


def early_error(fault: Fault | None, retry_after_ms: int) -> ApiError | None:
    """The error that a fault shows before a request is looked at."""
    if fault is Fault.RATE_LIMITED:
        return _too_many("Rate limit reached.", _retry_after(retry_after_ms))
    if fault is Fault.RATE_LIMITED_UNTOLD:
        return _too_many("Rate limit reached.", {})
    if fault is Fault.SERVER_ERROR:
        message = "The server had an error while processing your request. Sorry about that!"
        return ApiError(500, message, kind="server_error")
    if fault is Fault.OVERLOADED:
        message = "The engine is currently overloaded, please try again later."
        return ApiError(503, message, kind="service_unavailable_error")
    return None


def rate_limited(rpm: float, grant: Grant, limits: Mapping[str, str]) -> ApiError:
    """The rate limit's refusal, with when to come again."""
    wait_ms = -(-grant.wait_ns // 1_000_000)
    message = (
        f"Rate limit reached on requests per min (RPM): Limit {rpm:g}. "
        f"Please try again in {go_duration(grant.wait_ns)}."
    )
    return _too_many(message, {**limits, **_retry_after(wait_ms)})


def _too_many(message: str, headers: Mapping[str, str]) -> ApiError:
    return ApiError(429, message, code="rate_limit_exceeded", kind="requests", headers=headers)


def _retry_after(wait_ms: int) -> dict[str, str]:
    return {"retry-after-ms": str(wait_ms), "retry-after": str(-(-wait_ms // 1000))}
