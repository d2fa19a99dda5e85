"""Errors in each provider's shape, read by the client of this package: both sides agree on what they mean."""

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.error_styles import ErrorStyle
from pipeline.emulator.faults import Fault
from pipeline.emulator.server import serve
from pipeline.endpoints.errors import read_failure
from pipeline.errors import ErrorKind
from pipeline.records import Failure

Body = Callable[..., dict[str, Any]]
every_style = pytest.mark.parametrize("style", list(ErrorStyle))


async def _ask(config: EmulatorConfig, body: dict[str, Any]) -> tuple[int, Any, Failure]:
    """Status and body of one request, and what the client makes of them."""
    async with (
        serve(config) as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json=body) as response,
    ):
        failure = read_failure(response.status, response.headers, await response.read())
        return response.status, await response.json(), failure


@every_style
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.BAD_KEY, ErrorKind.AUTHENTICATION),
        (Fault.RATE_LIMITED, ErrorKind.RATE_LIMITED),
        (Fault.RATE_LIMITED_BARE, ErrorKind.RATE_LIMITED),
        (Fault.INSUFFICIENT_QUOTA, ErrorKind.QUOTA_EXHAUSTED),
        (Fault.SERVER_ERROR, ErrorKind.SERVER_ERROR),
        (Fault.OVERLOADED, ErrorKind.OVERLOADED),
    ],
)
async def test_faults_are_understood(chat_body: Body, style: ErrorStyle, fault: Fault, kind: ErrorKind) -> None:
    """Key, limit, quota and server errors keep their meaning in every shape, and their words arrive."""
    status, _, failure = await _ask(EmulatorConfig(error_style=style, faults={fault: 1}), chat_body())
    assert failure.kind is kind
    assert failure.status == status
    assert failure.message
    assert not failure.message.startswith("HTTP")
    assert failure.retry_after_s == (1.0 if fault is Fault.RATE_LIMITED else None)


@every_style
async def test_an_unknown_model_is_understood(chat_body: Body, style: ErrorStyle) -> None:
    """A 404 of a model, or of a deployment."""
    _, _, failure = await _ask(EmulatorConfig(error_style=style), chat_body(model="unknown-x"))
    assert failure.kind is ErrorKind.MODEL_NOT_FOUND


@every_style
async def test_a_bad_image_is_understood(chat_body: Body, style: ErrorStyle) -> None:
    """A 400 is this record's, and says why."""
    _, _, failure = await _ask(EmulatorConfig(error_style=style), chat_body(b"no image"))
    assert failure.kind is ErrorKind.BAD_REQUEST
    assert "unsupported image" in failure.message


@every_style
async def test_too_large_a_body_is_understood(chat_body: Body, style: ErrorStyle) -> None:
    """A 413 is this record's."""
    config = EmulatorConfig(error_style=style, max_body_mb=0.001)
    _, _, failure = await _ask(config, chat_body(bytes(2000)))
    assert failure.kind is ErrorKind.REQUEST_TOO_LARGE


@pytest.mark.parametrize(("style", "status"), [(ErrorStyle.AZURE, 400), (ErrorStyle.OPENROUTER, 403)])
async def test_a_blocked_prompt_is_an_error_of_some(chat_body: Body, style: ErrorStyle, status: int) -> None:
    """Azure and OpenRouter refuse the prompt itself; it is not billed."""
    config = EmulatorConfig(error_style=style, faults={Fault.CONTENT_FILTER: 1})
    got, _, failure = await _ask(config, chat_body())
    assert (got, failure.kind) == (status, ErrorKind.CONTENT_FILTER)


@pytest.mark.parametrize(
    ("style", "fault", "status", "body"),
    [
        (
            ErrorStyle.AZURE,
            Fault.RATE_LIMITED,
            429,
            {"error": {"code": "429", "message": "Rate limit reached."}},
        ),
        (
            ErrorStyle.OPENROUTER,
            Fault.INSUFFICIENT_QUOTA,
            402,
            {
                "error": {
                    "code": 402,
                    "message": "You exceeded your current quota, please check your plan and billing details.",
                }
            },
        ),
        (
            ErrorStyle.ANTHROPIC,
            Fault.OVERLOADED,
            529,
            {
                "type": "error",
                "error": {
                    "type": "overloaded_error",
                    "message": "The engine is currently overloaded, please try again later.",
                },
            },
        ),
        (ErrorStyle.VLLM, Fault.BAD_KEY, 401, {"error": "Unauthorized"}),
    ],
)
async def test_shapes(chat_body: Body, style: ErrorStyle, fault: Fault, status: int, body: object) -> None:
    """The bodies as the providers' documents show them."""
    got, shown, _ = await _ask(EmulatorConfig(error_style=style, faults={fault: 1}), chat_body())
    assert (got, shown) == (status, body)


async def test_azures_filter_names_its_policy(chat_body: Body) -> None:
    """`innererror` holds the code and the categories."""
    config = EmulatorConfig(error_style=ErrorStyle.AZURE, faults={Fault.CONTENT_FILTER: 1})
    _, body, _ = await _ask(config, chat_body())
    inner = body["error"]["innererror"]
    assert inner["code"] == "ResponsibleAIPolicyViolation"
    assert inner["content_filter_result"]["sexual"] == {"filtered": True, "severity": "medium"}


async def test_aimlapi_has_no_error_around_it(chat_body: Body) -> None:
    """Message, path, request, time, and a status that is text; out of credits is 403."""
    config = EmulatorConfig(error_style=ErrorStyle.AIMLAPI, faults={Fault.INSUFFICIENT_QUOTA: 1})
    status, body, _ = await _ask(config, chat_body())
    assert status == 403
    assert set(body) == {"message", "path", "requestId", "statusCode", "timestamp"}
    assert (body["statusCode"], body["path"]) == ("403", "/v1/chat/completions")
