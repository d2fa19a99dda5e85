"""What an endpoint's refusal means: by status, code and type.

The text counts only where the codes do not say it: of AI/ML API and 302.AI, whether an account has no credit left or a
request is not allowed; of LiteLLM's proxy, which passes on the words of a provider without its codes; of those where an
empty account has the code of a wrong request or of a rate.

Error bodies differ: `{"error": {message, type, code}}` (OpenAI, Azure, OpenRouter, vLLM, Ollama, Anthropic's
compatible layer), the same in a list (Gemini), `{error: {err_code, message}}` (302.AI), `{message, statusCode}` (AI/ML
API, with the fields that are wrong in `meta`), `{detail}` (FastAPI), HTML.
Sources: the vendors' pages on errors; the codes below stand beside the vendor who documents them.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from pipeline.config.durations import duration_s
from pipeline.endpoints.json_values import dict_of, dicts_of, list_of
from pipeline.endpoints.untaken import CODES
from pipeline.errors import ErrorKind
from pipeline.http.values import retry_after
from pipeline.records import Failure
from pipeline.redaction.redactor import _EXCERPT_BYTES, NOTHING_SECRET, Redactor, one_line

_REDIRECTS: Final = range(300, 400)
_ERRORS: Final = range(400, 600)

_QUOTA_CODES: Final = frozenset(
    {
        "insufficient_quota",  # OpenAI, Azure
        "billing_hard_limit_reached",  # OpenAI
        "billing_not_active",  # OpenAI
        "billing_error",  # Anthropic
        "arrearage",  # Alibaba Cloud Model Studio
        "exceeded_current_quota_error",  # Moonshot
        "insufficient_user_quota",  # gateways built on One API
        "budget_exceeded",  # LiteLLM's proxy: of a key, a team or a user
    }
)
_MODEL_CODES: Final = frozenset({"model_not_found", "deploymentnotfound", "invalid_model"})
_KEY_CODES: Final = frozenset({"invalid_api_key", "api_key_invalid"})  # the second: Gemini, with status 400
_CONTENT_CODES: Final = frozenset(
    {
        "content_filter",  # Azure
        "responsibleaipolicyviolation",  # Azure, innererror
        "content_policy_violation",  # OpenAI
        "image_content_policy_violation",  # OpenAI
        "moderation_blocked",  # OpenAI
        "data_inspection_failed",  # Alibaba Cloud Model Studio, compatible mode
        "datainspectionfailed",  # the same, native
        "bio_policy",  # OpenAI, Responses; so the next one
        "misalignment_policy_violation",
    }
)
_CAPACITY_CODES: Final = frozenset(
    {
        "resource_unavailable",  # OpenAI, "Flex processing": with status 429, and not charged
        "capacity_exceeded",  # Groq, "Flex Processing": with status 498
    }
)
_NOT_DOWNLOADED: Final = "failed_to_download_image"  # OpenAI, Responses
_KINDS_OF_CODES: Final = (
    (_CONTENT_CODES, ErrorKind.CONTENT_FILTER),
    (_QUOTA_CODES, ErrorKind.QUOTA_EXHAUSTED),
    (_MODEL_CODES, ErrorKind.MODEL_NOT_FOUND),
    (_KEY_CODES, ErrorKind.AUTHENTICATION),
    (_CAPACITY_CODES, ErrorKind.OVERLOADED),
    (frozenset({_NOT_DOWNLOADED}), ErrorKind.FETCH_FAILED),
)
_EXCEEDS_LIMIT: Final[Mapping[int, frozenset[str]]] = {
    413: frozenset({"rate_limit_exceeded", "tokens"}),  # Groq: more tokens than a minute grants
    429: frozenset({"request_too_large"}),
}
_STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    "-10008": 503,  # 302.AI's err_code: no model is available
    "badrequesterror": 400,  # vLLM; so the next two
    "authenticationerror": 401,
    "notfounderror": 404,
    "vector_store_timeout": 504,  # OpenAI, Responses: what `error.code` of a failed response may be; so the next ones
    **dict.fromkeys(
        (
            "invalid_prompt", "data_residency_mismatch", "invalid_image", "invalid_image_format",
            "invalid_base64_image", "invalid_image_url", "image_too_large", "image_too_small", "image_parse_error",
            "invalid_image_mode", "image_file_too_large", "unsupported_image_media_type", "empty_image_file",
            "image_file_not_found",
        ),
        400,
    ),
}  # fmt: skip
"""For errors that come without a number, inside a 200."""

_KIND_OF_STATUS: Final[Mapping[int, ErrorKind]] = {
    401: ErrorKind.AUTHENTICATION,
    402: ErrorKind.QUOTA_EXHAUSTED,
    403: ErrorKind.PERMISSION,
    404: ErrorKind.MODEL_NOT_FOUND,
    405: ErrorKind.MODEL_NOT_FOUND,
    407: ErrorKind.AUTHENTICATION,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.SERVER_ERROR,
    410: ErrorKind.MODEL_NOT_FOUND,
    413: ErrorKind.REQUEST_TOO_LARGE,
    424: ErrorKind.SERVER_ERROR,  # a gateway's upstream failed; it is no fault of the request
    425: ErrorKind.SERVER_ERROR,
    429: ErrorKind.RATE_LIMITED,
    498: ErrorKind.OVERLOADED,  # Groq, "Flex Processing": no capacity
    499: ErrorKind.SERVER_ERROR,  # cancelled on the way, and not by us
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.TIMEOUT,
    529: ErrorKind.OVERLOADED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What an error body says, whatever its shape."""

    message: str | None = None
    codes: frozenset[str] = frozenset()
    """Every code, type and reason in it, in lower case."""
    param: str | None = None
    """The field of the request that a model or a server does not take, where the error says so by code."""
    number: int | None = None
    """The HTTP status that the body itself names."""
    may_mean_credit: bool = False
    """AI/ML API's shape (`statusCode`, and no `error` around it) or 302.AI's (`err_code`): a 401 or 403 of theirs may
    mean that the account has no credit left.
    """
    flagged: bool = False
    """OpenRouter's moderation: it is this input that is refused."""
    retry_delay_s: float | None = None
    """Google's `RetryInfo`."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes, redactor: Redactor = NOTHING_SECRET) -> Failure:
    """Any response with a status that is no 2xx. A content filter's refusal has the kind CONTENT_FILTER.

    `headers` are case-insensitive, or in lower case. `redactor` cleans the message before it is cut short.
    """
    parsed = parse_json(body)
    error = read_error(parsed)
    wait_s = retry_after(headers)
    return Failure(
        kind=ErrorKind.MODEL_NOT_FOUND if status in _REDIRECTS else classify(status, error),
        message=one_line(_words(status, headers, error, body, redactor), redactor),
        status=status,
        param=error.param,
        retry_after_s=error.retry_delay_s if wait_s is None else wait_s,
        request_id=request_id(headers, parsed),
    )


def classify(status: int, error: ErrorBody) -> ErrorKind:
    """The kind of an HTTP status >= 400 (or of the number that an error inside a 200 bears)."""
    for codes, kind in _KINDS_OF_CODES:
        if error.codes & codes:
            return kind
    if status == HTTPStatus.FORBIDDEN and error.flagged:
        return ErrorKind.CONTENT_FILTER
    for words, kind in _WORDS:
        if words.match(error.message or ""):
            return kind
    if _says_no_credit(status, error):
        return ErrorKind.QUOTA_EXHAUSTED
    if error.codes & _EXCEEDS_LIMIT.get(status, frozenset()):
        return ErrorKind.REQUEST_EXCEEDS_LIMIT
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return _KIND_OF_STATUS.get(status, ErrorKind.SERVER_ERROR if server else ErrorKind.BAD_REQUEST)


def status_inside(error: ErrorBody) -> int:
    """The status that an error inside a 200 stands for; 500 where it does not say."""
    if error.number is not None:
        return error.number
    return next((_STATUS_OF_TYPE[code] for code in sorted(error.codes) if code in _STATUS_OF_TYPE), 500)


def read_error(parsed: object) -> ErrorBody:
    """The error in a parsed body of any of the known shapes."""
    if isinstance(parsed, list):
        parsed = parsed[0] if parsed else None
    if not isinstance(parsed, dict):
        return ErrorBody()
    inner = parsed.get("error")
    if isinstance(inner, str) and inner:
        return ErrorBody(message=inner, codes=frozenset(_codes(parsed)), number=_number(parsed))
    error = inner if isinstance(inner, dict) else parsed
    details = dicts_of(error.get("details"))
    metadata = dict_of(error.get("metadata"))
    codes = frozenset(_codes(error, dict_of(error.get("innererror")), *details))
    message = _message(error, metadata)
    if "invalid_image_url" in codes and "download" in (message or "").lower():  # OpenAI: or it is no address
        codes |= {_NOT_DOWNLOADED}
    return ErrorBody(
        message=message,
        codes=codes,
        param=error["param"] if codes & CODES and _text(error.get("param")) else None,
        number=_number(error) or _number(parsed),
        may_mean_credit=("error" not in parsed and "statusCode" in parsed) or "err_code" in error,
        flagged="flagged_input" in metadata or "reasons" in metadata,
        retry_delay_s=next(_retry_delays(details), None),
    )


def request_id(headers: Mapping[str, str], parsed: object) -> str | None:
    """What to name when asking the provider about this request."""
    for name in ("x-request-id", "request-id", "apim-request-id", "x-inference-id"):
        if headers.get(name):
            return headers[name]
    body = dict_of(parsed)
    return next((body[k] for k in ("id", "request_id", "requestId") if _text(body.get(k))), None)


def parse_json(body: bytes) -> Any:  # noqa: ANN401 -- JSON is whatever the endpoint sends
    """The body's JSON, None where it is none.

    What orjson refuses and others send (NaN, half an emoji, bytes that are no UTF-8, a stream's comments before it) is
    read as well as it can be: the answer is paid for.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(COMMENTS.sub(b"", body).decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def excerpt(body: bytes) -> str:
    """The readable text of a body that is no JSON answer: markup taken out."""
    text = body[:_EXCERPT_BYTES].decode("utf-8", "replace")
    return html.unescape(_TAGS.sub(" ", text)) if "<" in text else text


COMMENTS: Final = re.compile(rb"\A(?:\s*:[^\n]*\n)+\s*(?=\{)")
"""Before the whole answer: OpenRouter sends them while it works, so that no proxy gives up."""
_STATUS = re.compile(r"[45]\d\d")
_KEY_OR_CREDIT: Final = frozenset({401, 403})
_OF_CREDIT: Final = re.compile(
    r"\b(credits?|balance|quota|billing|payment|top.?up|recharge|plan limits?)\b", re.IGNORECASE
)
_MAY_BE_CREDIT: Final = frozenset({400, 401, 403, 429})
_NO_CREDIT: Final = re.compile(
    r"credit balance is too low|insufficient (account )?balance|used all available credits|please (recharge|top.?up)",
    re.IGNORECASE,
)
"""Anthropic (400), xAI and Zhipu (429). "Quota" alone is no proof: Google has quotas a minute."""
_WORDS: Final = (
    (re.compile(r"No models? loaded"), ErrorKind.MODEL_NOT_FOUND),  # LM Studio: 400 or 404
    (re.compile(r"/[\w/]+: Invalid model name passed in model="), ErrorKind.MODEL_NOT_FOUND),
    (re.compile(r"litellm\.\w+: .*OpenAIException - You exceeded your current quota"), ErrorKind.QUOTA_EXHAUSTED),
    (re.compile(r"litellm\.(BadRequestError: litellm\.)?ContentPolicyViolationError"), ErrorKind.CONTENT_FILTER),
)
"""The others as LiteLLM 1.106 writes them. Google words a limit of a minute as a quota, too: only OpenAI's is one."""
_MOST_NESTED: Final = 4
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.DOTALL | re.IGNORECASE)


def _says_no_credit(status: int, error: ErrorBody) -> bool:
    words = error.message or ""
    may_be = status in _KEY_OR_CREDIT and error.may_mean_credit and _OF_CREDIT.search(words)
    return bool(may_be or (status in _MAY_BE_CREDIT and _NO_CREDIT.search(words)))


def _words(status: int, headers: Mapping[str, str], error: ErrorBody, body: bytes, redactor: Redactor) -> str:
    if status in _REDIRECTS:
        return (
            f"HTTP {status}: the address redirects to {headers.get('location', 'nowhere')}. The key is not "
            "sent elsewhere: if that is the right address, give it as `endpoint.base_url`"
        )
    words = error.message or excerpt(body).strip()
    words = f"HTTP {status}: {words}" if words and not error.message else words or f"HTTP {status}"
    if status in {404, 405} and not error.codes & _MODEL_CODES:
        return f"{one_line(words, redactor)} (is the address, `endpoint.base_url`, right, and the model's name?)"
    return words


def _message(error: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    for key in ("message", "detail", "msg"):
        words = error.get(key)
        if _text(words):
            raw = metadata.get("raw")  # OpenRouter: what the provider behind it said
            fields = "; ".join(_field_errors(error.get("meta")))
            return ": ".join(filter(None, (str(words), raw if _text(raw) else None, fields)))
        if isinstance(words, list) and words:
            return "; ".join(word if isinstance(word, str) else json.dumps(word) for word in words)
    return None


def _field_errors(meta: object, name: str = "", depth: int = 0) -> Iterator[str]:
    """AI/ML API: what is wrong with fields of a request, as `{path, message}` or as words, in arrays."""
    if isinstance(meta, list):
        for one in meta:
            if _text(one):
                yield f"{name}: {one}" if name else one
            elif depth < _MOST_NESTED:
                yield from _field_errors(one, name, depth + 1)
    elif isinstance(meta, dict) and _text(meta.get("message")):
        path = ".".join(map(str, list_of(meta.get("path")))) or name
        yield f"{path}: {meta['message']}" if path else meta["message"]
    elif isinstance(meta, dict):
        for key, one in meta.items():
            if isinstance(one, list | dict) and depth < _MOST_NESTED:
                yield from _field_errors(one, str(key), depth + 1)


def _codes(*sources: Mapping[str, Any]) -> Iterator[str]:
    for source in sources:
        for key in ("code", "type", "status", "reason", "err_code"):  # the last: 302.AI, a number
            code = source.get(key)
            if _text(code) or type(code) is int:
                yield str(code).lower()


def _number(error: Mapping[str, Any]) -> int | None:
    for key in ("code", "statusCode", "status_code", "status"):
        value = error.get(key)
        if isinstance(value, str) and _STATUS.fullmatch(value):
            value = int(value)
        if isinstance(value, int) and value in _ERRORS:
            return value
    return None


def _retry_delays(details: list[dict[str, Any]]) -> Iterator[float]:
    for detail in details:
        wait_s = duration_s(detail["retryDelay"]) if _text(detail.get("retryDelay")) else None
        if wait_s is not None:
            yield wait_s


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
