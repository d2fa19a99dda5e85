"""For the same job the official client and this one send requests that differ in nothing, as OpenAI describes them.

Requests are captured by the emulator. The description is an extract: its `$comment` has source, date and licence.
"""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from jsonschema import Draft202012Validator
from openai.lib._parsing import type_to_response_format_param
from openai.lib._parsing._responses import type_to_text_format_param
from openai.types.responses import Response
from pydantic import BaseModel

import pipeline
from pipeline.config.loading import load_config
from pipeline.config.sections import parameter_names
from pipeline.emulator.server import serve
from pipeline.endpoints.chat_request import ChatTemplate
from pipeline.locations import LocalFile
from pipeline.records import Failure
from pipeline.run.prepare import Preparer
from tests.support import MakeImage


class Photo(BaseModel):
    """Labels of a picture."""

    scene: Literal["indoor", "outdoor"]
    tags: list[str]


SCHEMA = json.loads((Path(__file__).parent / "chat_completions_schema.json").read_text(encoding="utf-8"))
PROMPT = "What is in this picture?"
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("gpt-4o", {"max_tokens": 300}),
    "sampling": ("gpt-4o", {"max_tokens": 7, "temperature": 0.5, "top_p": 0.25, "seed": 7}),
    "choices": ("gpt-4.1-mini", {"max_tokens": 300, "n": 3, "stop": ["END", "\n\n"]}),
    "one stop": ("gpt-4o", {"max_tokens": 300, "stop": "END", "user": "someone"}),
    "penalties": (
        "gpt-4o",
        {"max_tokens": 300, "presence_penalty": -0.5, "frequency_penalty": 1.5, "logit_bias": {"50256": -100}},
    ),
    "probabilities": ("gpt-4o", {"max_tokens": 300, "logprobs": True, "top_logprobs": 5}),
    "tier": ("gpt-5-mini", {"max_completion_tokens": 812, "service_tier": "flex", "reasoning_effort": "minimal"}),
    "effort": ("o3", {"max_completion_tokens": 8492, "reasoning_effort": "medium"}),
    "none": ("gpt-5.1", {"max_completion_tokens": 300, "reasoning_effort": "none", "temperature": 0}),
    "no limit": ("gpt-4o", {}),
    "stream": ("gpt-4o", {"max_tokens": 300, "stream": True, "stream_options": {"include_usage": True}}),
    "labels": ("gpt-4o", {"max_tokens": 300, "response_format": type_to_response_format_param(Photo)}),
}
"""The model, and the parameters as the official client takes them."""


def overrides(wanted: dict[str, Any]) -> dict[str, Any]:
    """The settings of the same job; what the catalogue adds to `max_tokens` is not set."""
    settings = {f"request.{name}": value for name, value in wanted.items() if name in parameter_names() | {"stream"}}
    if "response_format" in wanted:
        settings["request.labels"] = Photo
    if "max_tokens" in wanted or "max_completion_tokens" not in wanted:
        settings["request.max_tokens"] = wanted.get("max_tokens", "none")
    return settings


async def sent_by_the_official_client(url: str, image: bytes, model: str, wanted: dict[str, Any], detail: str) -> None:
    data_url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    picture = {"url": data_url} if detail == "auto" else {"url": data_url, "detail": detail}
    parts = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": picture}]
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
        answer = await client.chat.completions.create(model=model, messages=messages, **wanted)
        if wanted.get("stream"):
            assert [chunk async for chunk in answer]


@pytest.mark.parametrize("detail", ["auto", "low"])
async def test_both_clients_send_the_same(make_image: MakeImage, detail: str) -> None:
    """Field by field, for every parameter: values, and the fields that are there at all."""
    image = make_image("photos/0.jpg", 64, 48)
    async with serve() as server:
        for name, (model, wanted) in JOBS.items():
            settings = {**overrides(wanted), "request.detail": detail, "request.dedup": False}
            summary = await pipeline.run_async(
                image.parent, out=f"out/{name}", base_url=server.url, model=model, prompt=PROMPT, system="Be brief.",
                quiet=True, overrides=settings,
            )  # fmt: skip
            assert summary.exit_code == 0, name
            await sent_by_the_official_client(server.url, image.read_bytes(), model, wanted, detail)
            ours, theirs = (one["body"] for one in server.requests(2))
            assert ours == theirs, name


RESPONSES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "plain": ("gpt-4o", {"max_output_tokens": 300}, {}),
    "sampling": (
        "gpt-4o",
        {"max_output_tokens": 7, "temperature": 0.5, "top_p": 0.25, "user": "someone"},
        {"max_tokens": 7, "temperature": 0.5, "top_p": 0.25, "user": "someone"},
    ),
    "probabilities": (
        "gpt-4o",
        {"max_output_tokens": 300, "include": ["message.output_text.logprobs"], "top_logprobs": 5},
        {"logprobs": True, "top_logprobs": 5},
    ),
    "tier": (
        "gpt-5-mini",
        {"max_output_tokens": 812, "service_tier": "flex", "reasoning": {"effort": "minimal"}},
        {"service_tier": "flex", "reasoning_effort": "minimal"},
    ),
    "effort": (
        "o3",
        {"max_output_tokens": 8492, "reasoning": {"effort": "medium", "summary": "auto"}, "metadata": {"job": "x"}},
        {"reasoning_effort": "medium", "extra": {"reasoning": {"summary": "auto"}, "metadata": {"job": "x"}}},
    ),
    "no limit": ("gpt-4o", {}, {"max_tokens": "none"}),
    "stored": ("gpt-4o", {"max_output_tokens": 300, "store": True}, {"extra": {"store": True}}),
    "stream": ("gpt-4o", {"max_output_tokens": 300, "stream": True}, {"stream": True}),
    "labels": (
        "gpt-4o",
        {"max_output_tokens": 300, "text": {"format": type_to_text_format_param(Photo), "verbosity": "low"}},
        {"labels": Photo, "extra": {"text": {"verbosity": "low"}}},
    ),
}
"""The model, the parameters of the official client's `responses.create`, and the settings of the same job."""


@pytest.mark.parametrize("detail", ["auto", "low"])
async def test_both_clients_send_the_same_responses(make_image: MakeImage, detail: str) -> None:
    """Field by field, to the Responses API; what comes back is what the official client's types describe."""
    image = make_image("photos/0.jpg", 64, 48)
    url = f"data:image/jpeg;base64,{base64.b64encode(image.read_bytes()).decode()}"
    parts = [{"type": "input_text", "text": PROMPT}, {"type": "input_image", "image_url": url, "detail": detail}]
    asked: Any = [{"role": "user", "content": parts}]
    async with serve() as server, openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        for name, (model, wanted, settings) in RESPONSES.items():
            summary = await pipeline.run_async(
                image.parent, out=f"out/{name}", base_url=server.url, model=model, prompt=PROMPT, system="Be brief.",
                quiet=True, overrides={"endpoint.api": "responses", "request.detail": detail, "request.dedup": False}
                | {f"request.{key}": value for key, value in settings.items()},
            )  # fmt: skip
            assert summary.exit_code == 0, name
            answer = await client.responses.create(
                model=model, instructions="Be brief.", input=asked, **{"store": False, **wanted}
            )
            if wanted.get("stream"):
                answer = [event async for event in answer][-1].response
            ours, theirs = (one["body"] for one in server.requests(2))
            assert ours == theirs, name
            row = pipeline.read(f"out/{name}").iloc[0]
            status = Response.model_validate(answer.model_dump(by_alias=True), strict=True).status
            assert {"completed": "ok", "incomplete": "truncated"}[status or ""] == row.status
            assert answer.output_text == row.caption, name
            assert (answer.usage.input_tokens, answer.usage.output_tokens) == (row.prompt_tokens, row.completion_tokens)


@pytest.mark.parametrize("name", JOBS)
def test_bodies_are_as_openai_describes_them(name: str, make_image: MakeImage) -> None:
    """The body with its image validates against the published description of chat/completions."""
    model, wanted = JOBS[name]
    config = load_config(None, {"request.model": model, "request.prompt": PROMPT, **overrides(wanted)}, {})
    Draft202012Validator.check_schema(SCHEMA)
    errors = sorted(Draft202012Validator(SCHEMA).iter_errors(body_of(config, make_image)), key=str)
    assert [f"{error.json_path}: {error.message[:200]}" for error in errors] == []


def test_the_description_finds_mistakes() -> None:
    """A misspelt field, a number beyond its range and a word that is no value are found."""
    good = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
    validator = Draft202012Validator(SCHEMA)
    assert validator.is_valid(good)
    mistakes: list[dict[str, Any]] = [{"max_token": 3}, {"n": 0}, {"top_p": 2}, {"service_tier": "cheap"}]
    for wrong in (*mistakes, {"messages": []}):
        assert not validator.is_valid({**good, **wrong}), wrong


def body_of(config: Any, make_image: MakeImage) -> Any:
    """The body that a run with this configuration sends of one picture."""
    prepare = Preparer.build(config, datetime.now(UTC).date())
    assert isinstance(prepare.template, ChatTemplate)
    path = make_image("photos/0.jpg", 64, 48)
    images = prepare.images.at(LocalFile("0.jpg", str(path)), None)
    assert not isinstance(images, Failure)
    return json.loads(prepare.template.body(images))
