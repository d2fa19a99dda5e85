"""Whole runs against servers that refuse as the vendors do: what a user sees, what is committed, how it ends."""

import subprocess
import time
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import EndpointStoppedError
from pipeline.commands.status import read_status
from tests import builders
from tests.run.test_processes import ENVIRON, begun, words
from tests.stub import Reply, answer, stub
from tests.support import MakeImage

FIRST, IMAGES = 20, 6


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(IMAGES):
        make_image(f"photos/{number}.png", FIRST + number, 16, seed=number)
    return Path("photos").resolve()


def ask(source: Path, url: str, **more: Any) -> pipeline.RunSummary:
    overrides = {"request.max_failures": 2, "limits.first_contact_s": 0.5, **more.pop("overrides", {})}
    return builders.ask(source, url, overrides=overrides, **{"concurrency": 2, **more})


def openrouter(code: object, **metadata: Any) -> Reply:
    return Reply(200, {"id": "gen-1", "error": {"code": code, "message": "their words", "metadata": metadata}})


AIMLAPI: dict[str, Any] = {"message": "their words", "path": "/v1/chat/completions", "requestId": "r", "timestamp": "t"}
NO_CREDITS = {**AIMLAPI, "message": "their words: you've run out of credits"}
AZURE_FILTER = {
    "error": {
        "message": "their words", "type": None, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
    }
}  # fmt: skip
VLLM = {"object": "error", "message": "their words", "type": "BadRequestError", "param": None, "code": 400}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "their words"}}

STOPS = {
    "OpenRouter, no credits": (openrouter(402), "no credit left"),
    "OpenRouter, the key": (openrouter("401"), "endpoint.api_key_env"),
    "AI/ML API, no credits": (Reply(403, {**NO_CREDITS, "statusCode": "403"}), "no credit left"),
    "AI/ML API, no credits, in a 200": (Reply(200, {**NO_CREDITS, "statusCode": "403"}), "no credit left"),
    "AI/ML API, not allowed": (Reply(403, {**AIMLAPI, "statusCode": "403"}), "the key may not do this"),
    "Azure, the key": (Reply(401, {"statusCode": 401, "message": "their words"}), "endpoint.api_key_env"),
    "Azure, the deployment": (
        Reply(404, {"error": {"code": "DeploymentNotFound", "message": "their words"}}), "request.model",
    ),
    "Anthropic, the key": (
        Reply(401, {"type": "error", "error": {"type": "authentication_error", "message": "their words"}}),
        "endpoint.api_key_env",
    ),
    "vLLM, the model, in a 200": (
        Reply(200, {"object": "error", "message": "their words", "type": "NotFoundError", "code": 404}),
        "request.model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("vendor", STOPS)
def test_what_stops_a_run(photos: Path, vendor: str) -> None:
    """Exit 4 after the first requests, in the vendor's words and with the way out; no row."""
    reply, way_out = STOPS[vendor]
    with stub(lambda _: reply) as server:
        with pytest.raises(EndpointStoppedError) as caught:
            ask(photos, server.base_url)
        assert server.asked.total() <= 2
    assert str(caught.value).startswith("their words")
    assert way_out in str(caught.value)
    assert len(pd.read_parquet("out/data")) == 0


RECORDS = {
    "OpenRouter, moderation": (openrouter(403, reasons=["violence"], flagged_input="x"), "refused", "content_filter"),
    "OpenRouter, the request": (openrouter(400, raw="and the provider's"), "failed", "bad_request"),
    "Azure, content filter": (Reply(400, AZURE_FILTER), "refused", "content_filter"),
    "vLLM, the request": (Reply(400, VLLM), "failed", "bad_request"),
    "vLLM, the request, in a 200": (Reply(200, VLLM), "failed", "bad_request"),
    "AI/ML API, the request": (Reply(400, {**AIMLAPI, "statusCode": 400}), "failed", "bad_request"),
}


@pytest.mark.parametrize("vendor", RECORDS)
def test_what_ends_a_record(photos: Path, vendor: str) -> None:
    """One image is refused: asked once, its row says why in the vendor's words; the others are answered."""
    reply, status, kind = RECORDS[vendor]
    with stub(lambda width: reply if width == FIRST + 2 else 200) as server:
        summary = ask(photos, server.base_url)
        assert server.asked[FIRST + 2] == 1
    assert summary.by_status == {"ok": IMAGES - 1, status: 1}
    row = pd.read_parquet("out/data").set_index("id").loc["2.png"]
    assert (row.status, row.error_kind) == (status, kind)
    assert str(row.error_message).startswith("their words")


WAITS = {
    "OpenRouter": openrouter(429),
    "OpenRouter, as text": openrouter("429"),
    "OpenRouter, busy": openrouter(503),
    "Anthropic, 529": Reply(529, OVERLOADED),
    "Anthropic, in a 200": Reply(200, OVERLOADED),
    "Azure": Reply(429, {"error": {"code": "429", "message": "their words"}}),
    "AI/ML API": Reply(429, {**AIMLAPI, "statusCode": "429"}),
    "a gateway": Reply(200, {"error": "their words", "code": 429}),
}


@pytest.mark.parametrize("vendor", WAITS)
def test_what_all_wait_for(photos: Path, vendor: str) -> None:
    """Busy for the first two requests, with a single failure allowed: every image is answered all the same."""
    busy, asked = WAITS[vendor], iter(range(2))
    reply = Reply(busy.status, busy.body, {"retry-after-ms": "20"})
    with stub(lambda _: 200 if next(asked, None) is None else reply) as server:
        summary = ask(photos, server.base_url, overrides={"request.max_failures": 1})
    assert (summary.exit_code, summary.by_status) == (0, {"ok": IMAGES})
    assert 1 <= summary.rate_limited <= 2


AGAIN = {
    "OpenRouter, its provider": openrouter(502, provider_name="x", raw={"error": "deep"}),
    "OpenRouter, without a number": openrouter(None),
    "OpenRouter, in the choice": Reply(
        200, {"choices": [{"error": {"code": 502, "message": "their words"}, "message": {"content": "half a"}}]}
    ),
    "OpenRouter, broken off": Reply(200, {"choices": [{"finish_reason": "error", "message": {"content": "half a"}}]}),
    "vLLM, its engine": Reply(500, {"error": {"message": "their words", "type": "InternalServerError", "code": 500}}),
    "a list": Reply(200, []),
    "nothing": Reply(200, None),
    "no choices": Reply(200, {"choices": None}),
    "choices that are none": Reply(200, {"choices": ["a", 1, None]}),
    "an error that is true": Reply(200, {"error": True, "choices": []}),
}


@pytest.mark.parametrize("vendor", AGAIN)
def test_what_is_asked_again(photos: Path, vendor: str) -> None:
    """The first try of one image fails: it is asked once more, and answered; half an answer is never kept."""
    tries = iter(range(1))

    def decide(width: int) -> int | Reply:
        return AGAIN[vendor] if width == FIRST and next(tries, None) is not None else 200

    with stub(decide) as server:
        summary = ask(photos, server.base_url)
        assert server.asked[FIRST] == 2
    assert (summary.exit_code, summary.by_status) == (0, {"ok": IMAGES})
    assert pd.read_parquet("out/data").set_index("id").caption["0.png"] == f"{FIRST} pixels wide"


# ---------------------------------------------------------------- limits that are advertised


def test_limits_that_are_nonsense_stall_nobody(photos: Path) -> None:
    """Forty tokens a minute beside answers of 105, none of a request: done at once, and said once."""
    told = {"x-ratelimit-limit-tokens": "40", "x-ratelimit-limit-requests": "0.0001", "x-ratelimit-reset-tokens": "1s"}
    with stub(lambda width: Reply(200, answer(width), told)) as server:
        done = subprocess.run(
            words("photos", server.base_url), env=ENVIRON, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("advertises a limit of 40 tokens a minute") == 1


def shown() -> str | None:
    return read_status(Path("out")).waiting if Path("out/status.json").exists() else None


def test_a_limit_that_makes_wait_is_seen(photos: Path) -> None:
    """One request a minute: `status` of the run under way says whose limit it is and when the next one goes."""
    told = {"x-ratelimit-limit-requests": "1"}
    with stub(lambda width: Reply(200, answer(width), told)) as server:
        running = begun(words("photos", server.base_url, "-q", "--grace-s", "0"))
        try:
            while (waiting := shown()) is None and running.poll() is None:
                Event().wait(0.05)  # a file does not tell that it has changed
        finally:
            running.terminate()
            running.communicate(timeout=20)
    assert str(waiting).startswith("the endpoint allows 1 request a minute: next at ")


def test_a_reset_without_retry_after(photos: Path) -> None:
    """The second image meets a 429 that only tells its reset, more than a second away: no third request before it."""
    seen = list[float]()

    def decide(width: int) -> int | Reply:
        seen.append(time.monotonic())
        if len(seen) != 2:
            return 200
        headers = {
            "x-ratelimit-limit-requests": "6000", "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1200ms",
        }  # fmt: skip
        return Reply(429, {"error": {"message": "busy"}}, headers)

    with stub(decide) as server:
        assert ask(photos, server.base_url, concurrency=1).exit_code == 0
    assert seen[2] - seen[1] >= 1.2
