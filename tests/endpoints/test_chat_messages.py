"""The messages of a request: every shape that the vendors' pages show, as the official client would send it."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest

import pipeline
from pipeline.config.loading import load_config
from pipeline.endpoints.chat_request import ChatTemplate
from pipeline.errors import InputError
from pipeline.records import ImageFacts, PreparedImage
from tests.builders import ask
from tests.http_servers import serving
from tests.support import MakeImage

FACTS = ImageFacts(width=8, height=6, sent_width=8, sent_height=6, sent_bytes=1, source_bytes=1, sha256="00")
PROMPT = "What’s in this image?"
EXAMPLES: list[dict[str, Any]] = [
    {"role": "user", "text": "And this?", "images": ["shot.png"]},
    {"role": "assistant", "text": "A cat."},
]


def image(data: bytes, text: str | None = None) -> PreparedImage:
    return PreparedImage(data=data, media_type="image/png", sha256=data.hex(), facts=FACTS, text=text)


def part(data: bytes, detail: str | None = None) -> dict[str, Any]:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url} if detail is None else {"url": url, "detail": detail}}


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def user(content: object, **more: str) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


@pytest.fixture(scope="module")
def bodies() -> Iterator[tuple[str, list[Any]]]:
    """An address that keeps the bodies which it is sent."""
    found: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"id": "1", "choices": [], "created": 0, "model": "m", "object": "chat.completion"}')

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as url:
        yield f"{url}/v1", found


@pytest.mark.parametrize(
    ("settings", "images", "messages"),
    [
        ({}, [image(b"a")], [user([words(PROMPT), part(b"a")])]),
        ({"image_position": "before"}, [image(b"a")], [user([part(b"a"), words(PROMPT)])]),
        ({"image_position": "after", "detail": "low"}, [image(b"a")], [user([words(PROMPT), part(b"a", "low")])]),
        ({"message_layout": "apart"}, [image(b"a")], [user(PROMPT), user([part(b"a")])]),
        (
            {"message_layout": "apart", "image_position": "before"},
            [image(b"a"), image(b"b")],
            [user([part(b"a"), part(b"b")]), user(PROMPT)],
        ),
        (
            {"system": "You look.", "system_name": "text", "user_name": "ann"},
            [image(b"a")],
            [{"role": "system", "content": "You look.", "name": "text"}, user([words(PROMPT), part(b"a")], name="ann")],
        ),
        (
            {},
            [image(b"a", "page 1"), image(b"b"), image(b"c", "page 3")],
            [user([words(PROMPT), words("page 1"), part(b"a"), part(b"b"), words("page 3"), part(b"c")])],
        ),
        (
            {"messages": EXAMPLES, "system": "s"},
            [image(b"shot"), image(b"a")],
            [
                {"role": "system", "content": "s"},
                user([words("And this?"), part(b"shot")]),
                {"role": "assistant", "content": "A cat."},
                user([words(PROMPT), part(b"a")]),
            ],
        ),
        (
            {"messages": EXAMPLES, "image_position": "before"},
            [image(b"shot"), image(b"a")],
            [
                user([part(b"shot"), words("And this?")]),
                {"role": "assistant", "content": "A cat."},
                user([part(b"a"), words(PROMPT)]),
            ],
        ),
    ],
)
def test_every_shape(
    settings: dict[str, Any],
    images: list[PreparedImage],
    messages: list[dict[str, Any]],
    bodies: tuple[str, list[Any]],
) -> None:
    """One body for both clients; in pieces it is the same."""
    url, found = bodies
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
        client.chat.completions.create(model="gpt-4o", max_tokens=300, messages=messages)  # type: ignore[arg-type] # plain
    config = load_config(None, {"request.prompt": PROMPT, **{f"request.{k}": v for k, v in settings.items()}}, {})
    template = ChatTemplate(config.request, "gpt-4o", "max_tokens")
    assert json.loads(template.body(images)) == found[-1]
    assert b"".join(template.pieces(images)) == template.body(images)


def test_the_text_of_an_image_is_part_of_the_request() -> None:
    """Requests that differ in the text of an image are not equal."""
    template = ChatTemplate(load_config(None, {}, {}).request, "gpt-4o", "max_tokens")
    each = [[image(b"a")], [image(b"a", "x")], [image(b"a", "y")]]
    assert len({template.digest(images) for images in each}) == 3


def test_examples_are_prepared_once_and_billed(make_image: MakeImage, emulator_url: str) -> None:
    """Images of the conversation before are pre-sized, sent with every request, and predicted."""
    make_image("shot.png", 3000, 2000)
    for number in range(3):
        make_image(f"photos/{number}.jpg", seed=number)
    Path("few.toml").write_text(
        '[request]\nmodel = "gpt-4o"\n[[request.messages]]\nrole = "user"\ntext = "And this?"\nimages = ["shot.png"]\n'
        '[[request.messages]]\nrole = "assistant"\ntext = "A cat."\n'
    )
    few = Path("few.toml").resolve()
    summary = pipeline.run("photos", out="out", config=few, base_url=emulator_url, quiet=True)
    table = pd.read_parquet("out/data")
    plain = ask("photos", emulator_url, out="plain")
    assert summary.by_status == {"ok": 3}
    assert (table["predicted_prompt_tokens"] - table["prompt_tokens"]).abs().max() <= 2
    assert (summary.prompt_tokens or 0) - (plain.prompt_tokens or 0) > 3 * 700
    assert summary.sent_bytes == plain.sent_bytes
    again = pipeline.run("photos", out="out", config="out/config.toml", base_url=emulator_url, quiet=True)
    assert (again.asked, again.skipped) == (0, 3)
    shown = pipeline.dry_run("photos", config=few, base_url=emulator_url)
    assert shown.count("characters>") == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"request.messages": [{"role": "user", "text": "?", "images": ["none.jpg"]}]}, r"none.jpg"),
        ({"request.messages": [{"role": "robot", "text": "?"}]}, "request.messages.0.role"),
        ({"request.user_name": "two words"}, "request.user_name"),
        ({"request.image_position": "beside"}, "request.image_position"),
    ],
)
def test_messages_that_cannot_be_sent(overrides: dict[str, Any], message: str, make_image: MakeImage) -> None:
    """Exit code 2 before anything is sent."""
    make_image("a.jpg")
    with pytest.raises(InputError, match=message):
        ask("a.jpg", "http://127.0.0.1:9/v1", overrides=overrides)
    assert not Path("out").exists()


def test_the_hash_of_a_conversation() -> None:
    """What is said counts, and the files by name: a moved folder is the same configuration."""
    each: list[dict[str, Any]] = [
        {},
        {"request.messages": EXAMPLES},
        {"request.messages": [{**EXAMPLES[0], "images": ["other.png"]}, EXAMPLES[1]]},
        {"request.image_position": "before"},
        {"request.message_layout": "apart"},
        {"request.user_name": "ann"},
    ]
    assert len({load_config(None, one, {}).config_hash() for one in each}) == len(each)
    moved = [{**EXAMPLES[0], "images": ["/elsewhere/shot.png"]}, EXAMPLES[1]]
    hashes = {load_config(None, {"request.messages": one}, {}).config_hash() for one in (EXAMPLES, moved)}
    assert len(hashes) == 1
