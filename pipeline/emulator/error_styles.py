"""The same errors as different providers put them: status and body.

Where a provider documents no shape for an error, OpenAI's stands. Sources: OpenAI, "Error codes"; Microsoft,
"Azure OpenAI content filtering"; OpenRouter, "Errors"; AI/ML API, "Errors"; Anthropic, "Errors"; vLLM's
`ErrorResponse`; 302.AI, whose errors have an `err_code` (-10008: no model; the number of all others here is ours).
"""

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from pipeline.emulator.api_errors import ApiError

Body = dict[str, Any]


class ErrorStyle(StrEnum):
    """Whose errors are shown."""

    OPENAI = "openai"
    AZURE = "azure"
    OPENROUTER = "openrouter"
    AIMLAPI = "aimlapi"
    ANTHROPIC = "anthropic"
    VLLM = "vllm"
    AI302 = "302ai"


def styled(style: ErrorStyle, error: ApiError, path: str, wall_ns: int) -> tuple[int, Body]:
    """Status and body of an error. `path` is that of the request, `wall_ns` Unix time."""
    if style is ErrorStyle.AIMLAPI:
        return _aimlapi(error, path, wall_ns)
    return _STYLES[style](error)


def blocks_prompts(style: ErrorStyle) -> bool:
    """Whether what the filter finds in a prompt is an error there, and not an answer without text."""
    return style in {ErrorStyle.AZURE, ErrorStyle.OPENROUTER}


def _openai(error: ApiError) -> tuple[int, Body]:
    return error.status, error.body


_AZURE_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
    "for an active subscription and use a correct regional API endpoint for your resource."
)
_AZURE_DEPLOYMENT = (
    "The API deployment for this resource does not exist. If you created the deployment within the last "
    "5 minutes, please wait a moment and try again."
)
_AZURE_WORDS: Mapping[int, tuple[str, str]] = {
    401: ("401", _AZURE_KEY),
    404: ("DeploymentNotFound", _AZURE_DEPLOYMENT),
}


def _azure(error: ApiError) -> tuple[int, Body]:
    if error.code == "content_filter":
        return error.status, _azure_filtered(error)
    if error.code == "rate_limit_exceeded":
        return error.status, {"error": {"code": "429", "message": error.message}}
    if error.status in _AZURE_WORDS:
        code, message = _AZURE_WORDS[error.status]
        return error.status, {"error": {"code": code, "message": message}}
    return _openai(error)


def _azure_filtered(error: ApiError) -> Body:
    safe = {"filtered": False, "severity": "safe"}
    result = {"hate": safe, "self_harm": safe, "sexual": {"filtered": True, "severity": "medium"}, "violence": safe}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": result}
    outer = {"message": error.message, "type": None, "param": "prompt", "code": error.code, "status": 400}
    return {"error": {**outer, "innererror": inner}}


def _openrouter(error: ApiError) -> tuple[int, Body]:
    status, metadata = error.status, {}
    if error.code == "content_filter":
        status = HTTPStatus.FORBIDDEN
        metadata = {"reasons": ["sexual"], "flagged_input": "", "provider_name": "emulator", "model_slug": "emulator"}
    elif error.code == "insufficient_quota":
        status = HTTPStatus.PAYMENT_REQUIRED
    body: Body = {"code": int(status), "message": error.message}
    return status, {"error": {**body, "metadata": metadata} if metadata else body}


def _aimlapi(error: ApiError, path: str, wall_ns: int) -> tuple[int, Body]:
    # "Errors with status code 4xx": 403 is an account out of credits.
    status, message = error.status, error.message
    if error.code == "insufficient_quota":
        status, message = HTTPStatus.FORBIDDEN, "You've run out of credits. Please top up your balance to continue."
    moment = datetime.fromtimestamp(wall_ns / 1e9, tz=UTC)
    named = error.body["error"]["param"]
    fields = {"meta": [{"path": named.split("."), "message": message}]} if named else {}
    return status, {
        "message": "Body validation error" if fields else message,
        **fields,
        "path": path,
        "requestId": str(uuid.uuid4()),
        "statusCode": str(int(status)),
        "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


_AI302_NO_MODEL = -10008
_AI302_OTHER = -10000


def _ai302(error: ApiError) -> tuple[int, Body]:
    status = HTTPStatus.UNAUTHORIZED if error.code == "insufficient_quota" else error.status
    message = "The account balance is insufficient." if error.code == "insufficient_quota" else error.message
    code = _AI302_NO_MODEL if status == HTTPStatus.SERVICE_UNAVAILABLE else _AI302_OTHER
    words = {"message": message, "message_cn": message, "message_ja": message}
    return status, {"error": {"err_code": code, **words, "type": "api_error"}}


_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def _anthropic(error: ApiError) -> tuple[int, Body]:
    status = 529 if error.status == HTTPStatus.SERVICE_UNAVAILABLE else error.status
    status = 402 if error.code == "insufficient_quota" else status
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error")
    return status, {"type": "error", "error": {"type": kind, "message": error.message}}


_VLLM_TYPES: Mapping[int, str] = {
    400: "BadRequestError",
    404: "NotFoundError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


def _vllm(error: ApiError) -> tuple[int, Body]:
    if error.status == HTTPStatus.UNAUTHORIZED:
        return error.status, {"error": "Unauthorized"}
    if error.code == "insufficient_quota":
        return _openai(error)
    if error.code == "model_not_found":
        return error.status, {"error": _vllm_error("The model does not exist.", error.status)}
    return error.status, {"error": _vllm_error(error.message, error.status)}


def _vllm_error(message: str, status: int) -> Body:
    return {"message": message, "type": _VLLM_TYPES.get(status, "BadRequestError"), "param": None, "code": status}


_STYLES: Mapping[ErrorStyle, Callable[[ApiError], tuple[int, Body]]] = {
    ErrorStyle.OPENAI: _openai,
    ErrorStyle.AZURE: _azure,
    ErrorStyle.OPENROUTER: _openrouter,
    ErrorStyle.ANTHROPIC: _anthropic,
    ErrorStyle.VLLM: _vllm,
    ErrorStyle.AI302: _ai302,
}
