"""Refusals of the known providers, as their documents show them."""

import json

import pytest

from pipeline.endpoints.errors import classify, read_error, read_failure, status_inside
from pipeline.errors import ErrorKind
from pipeline.redaction.redactor import Redactor, one_line


def openai_error(code: str | None = None, kind: str | None = None, message: str = "words") -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def google_error(code: int, status: str, *details: dict[str, object]) -> list[dict[str, object]]:
    return [{"error": {"code": code, "message": "words", "status": status, "details": list(details)}}]


NO_MODELS = {"err_code": -10008, "message": "words", "message_cn": "words", "type": "api_error"}  # 302.AI
ANTHROPIC = {"type": "error", "error": {"type": "authentication_error", "message": "words"}}
TOO_LARGE = {"type": "error", "error": {"type": "request_too_large", "message": "words"}}
AIMLAPI_403 = {"message": "words", "path": "/v1/chat/completions", "requestId": "r-1", "statusCode": "403"}
RETRY_INFO: dict[str, object] = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13.5s"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, openai_error("invalid_api_key", "invalid_request_error"), ErrorKind.AUTHENTICATION),
        (401, AIMLAPI_403 | {"statusCode": 401}, ErrorKind.AUTHENTICATION),
        (401, ANTHROPIC, ErrorKind.AUTHENTICATION),
        (400, google_error(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), ErrorKind.AUTHENTICATION),
        (402, {"error": {"code": 402, "message": "words"}}, ErrorKind.QUOTA_EXHAUSTED),
        (503, {"error": NO_MODELS}, ErrorKind.OVERLOADED),
        (403, openai_error("unsupported_country_region_territory"), ErrorKind.PERMISSION),
        (403, {"detail": "words"}, ErrorKind.PERMISSION),
        (403, AIMLAPI_403, ErrorKind.PERMISSION),
        (403, AIMLAPI_403 | {"message": "words: you've run out of credits."}, ErrorKind.QUOTA_EXHAUSTED),
        (403, AIMLAPI_403 | {"message": "words: top up your balance"}, ErrorKind.QUOTA_EXHAUSTED),
        (403, openai_error(message="words: credits are for others"), ErrorKind.PERMISSION),
        (401, {"error": NO_MODELS | {"err_code": -10002}}, ErrorKind.AUTHENTICATION),
        (401, {"error": NO_MODELS | {"message": "words: the balance is not sufficient"}}, ErrorKind.QUOTA_EXHAUSTED),
        (403, openai_error("insufficient_user_quota", "new_api_error"), ErrorKind.QUOTA_EXHAUSTED),
        (403, openai_error("model_not_found"), ErrorKind.MODEL_NOT_FOUND),
        (403, {"error": {"code": 403, "message": "words", "metadata": {"reasons": []}}}, ErrorKind.CONTENT_FILTER),
        (404, openai_error("model_not_found", "invalid_request_error"), ErrorKind.MODEL_NOT_FOUND),
        (404, openai_error("DeploymentNotFound"), ErrorKind.MODEL_NOT_FOUND),
        (404, {"object": "error", "message": "words", "type": "NotFoundError", "code": 404}, ErrorKind.MODEL_NOT_FOUND),
        (404, {"error": "words"}, ErrorKind.MODEL_NOT_FOUND),
        (405, {"detail": "words"}, ErrorKind.MODEL_NOT_FOUND),
        (400, openai_error("model_not_found"), ErrorKind.MODEL_NOT_FOUND),
        (429, openai_error("insufficient_quota", "insufficient_quota"), ErrorKind.QUOTA_EXHAUSTED),
        (429, openai_error("rate_limit_exceeded", "requests"), ErrorKind.RATE_LIMITED),
        (429, openai_error("429"), ErrorKind.RATE_LIMITED),
        (429, AIMLAPI_403 | {"statusCode": 429}, ErrorKind.RATE_LIMITED),
        (429, google_error(429, "RESOURCE_EXHAUSTED", RETRY_INFO), ErrorKind.RATE_LIMITED),
        (429, openai_error("exceeded_current_quota_error"), ErrorKind.QUOTA_EXHAUSTED),
        (429, openai_error("request_too_large"), ErrorKind.REQUEST_EXCEEDS_LIMIT),
        (413, openai_error("rate_limit_exceeded", "tokens"), ErrorKind.REQUEST_EXCEEDS_LIMIT),
        (413, TOO_LARGE, ErrorKind.REQUEST_TOO_LARGE),
        (400, openai_error("content_filter"), ErrorKind.CONTENT_FILTER),
        (400, openai_error("data_inspection_failed"), ErrorKind.CONTENT_FILTER),
        (400, openai_error("Arrearage"), ErrorKind.QUOTA_EXHAUSTED),
        (
            400,
            openai_error("invalid_request_error", message="Your credit balance is too low to access the words API."),
            ErrorKind.QUOTA_EXHAUSTED,
        ),
        (
            429,
            {"code": "resource exhausted", "error": "words: either used all available credits or reached its limit"},
            ErrorKind.QUOTA_EXHAUSTED,
        ),
        (
            429,
            openai_error("1113", message="words: Insufficient balance or no resource package. Please recharge."),
            ErrorKind.QUOTA_EXHAUSTED,
        ),
        (429, {"error": NO_MODELS | {"message": "words: Insufficient account balance"}}, ErrorKind.QUOTA_EXHAUSTED),
        (429, openai_error(message="words: you exceeded your current quota, wait a minute"), ErrorKind.RATE_LIMITED),
        (400, {"error": "No models loaded. Load words first."}, ErrorKind.MODEL_NOT_FOUND),
        (400, openai_error("invalid_image_format", "invalid_request_error"), ErrorKind.BAD_REQUEST),
        (400, openai_error("context_length_exceeded"), ErrorKind.BAD_REQUEST),
        (422, {"detail": [{"loc": ["body"], "msg": "words"}]}, ErrorKind.BAD_REQUEST),
        (408, {"error": {"code": 408, "message": "words"}}, ErrorKind.TIMEOUT),
        (409, openai_error(), ErrorKind.SERVER_ERROR),
        (424, openai_error(), ErrorKind.SERVER_ERROR),
        (425, openai_error(), ErrorKind.SERVER_ERROR),
        (498, openai_error("capacity_exceeded"), ErrorKind.OVERLOADED),
        (499, openai_error("request_cancelled"), ErrorKind.SERVER_ERROR),
        (401, {"statusCode": 401, "message": "words"}, ErrorKind.AUTHENTICATION),
        (429, {"statusCode": 429, "message": "words"}, ErrorKind.RATE_LIMITED),
        (400, openai_error("400", "BadRequestError"), ErrorKind.BAD_REQUEST),
        (400, {"object": "error", "message": "words", "type": "BadRequestError", "code": 400}, ErrorKind.BAD_REQUEST),
        (500, openai_error(None, "server_error"), ErrorKind.SERVER_ERROR),
        (502, openai_error(), ErrorKind.SERVER_ERROR),
        (503, openai_error(), ErrorKind.OVERLOADED),
        (504, openai_error(), ErrorKind.TIMEOUT),
        (524, openai_error(), ErrorKind.SERVER_ERROR),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "words"}}, ErrorKind.OVERLOADED),
    ],
)  # fmt: skip
def test_classes(status: int, body: object, kind: ErrorKind) -> None:
    """Status, code and type decide, and of two vendors the words between two kinds; they are kept."""
    failure = read_failure(status, {}, json.dumps(body).encode())
    assert failure.kind is kind
    assert "words" in failure.message
    assert failure.status == status


@pytest.mark.parametrize("code", [-10008, "-10008"])
def test_a_code_of_302_ai_is_read(code: object) -> None:
    """Proves that `err_code` is a code, as a number and as text; inside a 200 it stands for the 503 it comes with."""
    error = read_error({"error": NO_MODELS | {"err_code": code}})
    assert "-10008" in error.codes
    assert classify(status_inside(error), error) is ErrorKind.OVERLOADED


@pytest.mark.parametrize("code", [True, None, 1.5, [], {}, ""])
def test_what_is_no_code_is_passed_over(code: object) -> None:
    """Proves that values of other types in the fields of codes are no codes."""
    assert read_error({"error": {"err_code": code, "code": code, "message": "words"}}).codes == frozenset()


def test_the_words_decide_nothing() -> None:
    """A message that speaks of quota and keys is still what its status says."""
    body = openai_error(message="insufficient_quota: invalid_api_key, content_filter")
    assert read_failure(429, {}, json.dumps(body).encode()).kind is ErrorKind.RATE_LIMITED


def test_how_long_to_wait() -> None:
    """The header, else Google's RetryInfo."""
    body = json.dumps(google_error(429, "RESOURCE_EXHAUSTED", RETRY_INFO)).encode()
    assert read_failure(429, {}, body).retry_after_s == 13.5
    assert read_failure(429, {"retry-after": "2"}, body).retry_after_s == 2
    assert read_failure(503, {"retry-after-ms": "250"}, b"").retry_after_s == 0.25


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-request-id": "a", "request-id": "b"}, {}, "a"),
        ({"request-id": "b"}, {}, "b"),
        ({"apim-request-id": "c"}, {}, "c"),
        ({"x-inference-id": "d"}, {}, "d"),
        ({}, {"id": "e"}, "e"),
        ({}, AIMLAPI_403, "r-1"),
        ({}, {"type": "error", "request_id": "f"}, "f"),
        ({}, {"id": 7}, None),
    ],
)
def test_request_ids(headers: dict[str, str], body: object, expected: str | None) -> None:
    """OpenAI, Anthropic, Azure, AI/ML API, and bodies."""
    assert read_failure(500, headers, json.dumps(body).encode()).request_id == expected


def test_the_provider_behind_a_router_is_heard() -> None:
    """OpenRouter's "Provider returned error" is followed by what the provider said."""
    body = {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": "image too small"}}}
    message = read_failure(400, {}, json.dumps(body).encode()).message
    assert message == "Provider returned error: image too small"


def test_pages_instead_of_errors() -> None:
    """A proxy's HTML becomes one short line of its text, without control characters."""
    page = b"<html><head><title>502 Bad\x1b[31m Gateway</title></head>\r\n<body>nginx\x00</body>" + b"<p>x" * 9999
    message = read_failure(502, {}, page).message
    assert message.startswith("HTTP 502: 502 Bad [31m Gateway nginx x x")
    assert len(message) == 300
    assert message.isprintable()
    assert read_failure(502, {}, b"").message == "HTTP 502"


def test_a_404_points_at_address_and_model() -> None:
    """Both may be wrong; where a code says that it is the model, the provider's words stand alone."""
    assert "`endpoint.base_url`" in read_failure(404, {}, b"404 page not found").message
    known = json.dumps(openai_error("model_not_found", message="The model `gpt-9` does not exist")).encode()
    assert read_failure(404, {}, known).message == "The model `gpt-9` does not exist"


def test_a_redirect_names_the_new_address() -> None:
    """It stops the run, and says where the endpoint moved."""
    failure = read_failure(307, {"location": "https://new.test/v1/chat/completions"}, b"")
    assert failure.kind is ErrorKind.MODEL_NOT_FOUND
    assert "https://new.test/v1/chat/completions" in failure.message


SECRET = "0f9e8d7c6b5a4938"  # noqa: S105 -- made up


@pytest.mark.parametrize(
    "words",
    [
        f"Incorrect API key provided: {SECRET}.",
        f"Bearer {SECRET}",
        "Incorrect API key provided: sk-proj-0f9e8d7c6b5a4938. You can find your key",
        "Incorrect API key provided: sk-proj-********************4938.",
        "Incorrect API key provided: 0f9e****************4938.",
        "API key gsk_0f9e8d7c6b5a4938 not valid",
        "API key not valid: AIzaSy0f9e8d7c6b5a4938_0f9e8d7c6b5a4938",
    ],
)
def test_keys_are_masked(words: str) -> None:
    """A key that the provider repeats, whole or starred out, is not repeated by us."""
    for body in (json.dumps(openai_error("invalid_api_key", message=words)).encode(), words.encode()):
        message = read_failure(401, {}, body, redactor=Redactor([SECRET])).message
        assert "***" in message
        assert "0f9e" not in message
        assert "4938" not in message


def test_a_short_key_masks_nothing() -> None:
    """Servers without keys get "EMPTY": the word stays legible in their messages."""
    assert one_line("EMPTY prompt", Redactor(["EMPTY"])) == "EMPTY prompt"


def test_ordinary_words_are_no_keys() -> None:
    """Hyphens and stars alone do not make a key."""
    line = "task-oriented risk-assessment: 2 * 3 ** 4, gpt-4o-mini-2024-07-18, key-value"
    assert one_line(line) == line
