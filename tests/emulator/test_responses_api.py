"""The emulator's Responses API is one to the official client: answers, bills, streams, errors and faults."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.faults import Fault
from pipeline.emulator.server import RunningEmulator, serve

Body = Callable[..., dict[str, Any]]
Picture = Callable[..., bytes]


def as_responses(chat: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The same question in the words of the Responses API."""
    (message,) = chat["messages"]
    parts = []
    for part in message["content"]:
        image = part.get("image_url", {})
        of_image = {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail", "auto")}
        parts.append({"type": "input_text", "text": part["text"]} if part["type"] == "text" else of_image)
    return {"model": chat["model"], "input": [{"role": "user", "content": parts}], **options}


@pytest.fixture
async def server() -> AsyncIterator[RunningEmulator]:
    async with serve() as running:
        yield running


@pytest.fixture
async def client(server: RunningEmulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as opened:
        yield opened


@pytest.mark.parametrize(
    ("model", "options"),
    [("gpt-4o", {}), ("gpt-4o", {"detail": "low"}), ("gpt-5.5", {"detail": "original"}), ("o3", {})],
)
async def test_both_apis_answer_and_bill_alike(
    client: openai.AsyncOpenAI, chat_body: Body, picture: Picture, model: str, options: dict[str, str]
) -> None:
    """The same text from the same pixels, the same tokens of images, text and reasoning."""
    body = chat_body(picture(1024, 1024), picture(300, 200, "red"), model=model, **options)
    chat = await client.chat.completions.create(**body)
    found = await client.responses.create(**as_responses(body))
    assert found.output_text == chat.choices[0].message.content
    assert found.usage is not None
    assert chat.usage is not None
    ours = found.usage.input_tokens, found.usage.output_tokens, found.usage.output_tokens_details.reasoning_tokens
    details = chat.usage.completion_tokens_details
    assert ours == (chat.usage.prompt_tokens, chat.usage.completion_tokens, details and details.reasoning_tokens)
    assert [item.type for item in found.output] == (["reasoning"] if ours[2] else []) + ["message"]


async def test_the_clients_own_stream(client: openai.AsyncOpenAI, chat_body: Body, picture: Picture) -> None:
    """`responses.stream` puts text and events together; they are the response that is not streamed."""
    asked = as_responses(chat_body(picture()), instructions="Be brief.", max_output_tokens=200)
    plain = await client.responses.create(**asked)
    async with client.responses.stream(**asked) as stream:
        kinds = [event.type async for event in stream]
        whole = await stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert kinds.count("response.output_text.delta") > 1
    assert whole.output_text == plain.output_text
    assert (whole.instructions, whole.max_output_tokens) == ("Be brief.", 200)


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"messages": []}, "messages", "has moved to 'input'"),
        ({"response_format": {"type": "json_object"}}, "response_format", "has moved to 'text.format'"),
        ({"n": 2}, "n", "Unknown parameter: 'n'"),
        ({"input": None}, "input", "Missing required parameter: 'input'"),
        ({"input": 3}, "input", "expected one of a string or array"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "'robot'"),
        ({"input": [{"type": "reasoning"}]}, "input[0].type", "'reasoning'"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "input[0].content[0].type",
            "'text'",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "detail": "auto"}]}]},
            "input[0].content[0].image_url",
            "Missing",
        ),
        ({"max_output_tokens": 0}, "max_output_tokens", "below minimum"),
        ({"reasoning": {"effort": "enormous"}}, "reasoning.effort", "'enormous'"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "'xml'"),
        ({"text": {"format": {"type": "json_object"}}}, "input", "must contain the word 'json'"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}},
            "text.format.name",
            "does not match",
        ),
        ({"temperature": 3}, "temperature", "from 0 to 2"),
    ],
)
async def test_errors(
    client: openai.AsyncOpenAI, chat_body: Body, change: dict[str, Any], param: str, words: str
) -> None:
    """Every mistake is a 400 that names the field as this API calls it."""
    asked = {**as_responses(chat_body()), **change}
    with pytest.raises(openai.BadRequestError, match=words) as raised:
        await client.post("/responses", cast_to=object, body=asked)
    assert raised.value.param == param


@pytest.mark.parametrize("fault", ["refusal", "content_filter", "truncate", "empty", "empty_choices", "error_in_200"])
async def test_faults(fault: str, chat_body: Body, picture: Picture) -> None:
    """Each fault has the shape of this API."""
    async with (
        serve(EmulatorConfig(faults={Fault(fault): 1.0})) as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client,
    ):
        found = await client.responses.create(**as_responses(chat_body(picture())))
    reason = found.incomplete_details and found.incomplete_details.reason
    shapes = {
        "refusal": ("completed", None, 1), "content_filter": ("incomplete", "content_filter", 0),
        "truncate": ("incomplete", "max_output_tokens", 1), "empty": ("completed", None, 1),
        "empty_choices": ("completed", None, 0), "error_in_200": ("failed", None, 0),
    }  # fmt: skip
    assert (found.status, reason, len(found.output)) == shapes[fault]
