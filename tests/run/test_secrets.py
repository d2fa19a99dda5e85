"""Secrets in every place where a user or a server can put them: neither a byte of OUT nor the screen has one."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pandas as pd
import pytest
from PIL import Image

from pipeline.cli import app
from tests.stub import Reply, answer, stub

KEY: Final = "sk-proj-Zq9+x/17-0f9e8d7c6b5a4938"
HEADER: Final = "gate;h3ader+value/99"
PARAMETER: Final = "url-p4ram/eter+88"
PROXY: Final = "pr0xy-passw0rd-77"
SECRETS: Final = (KEY, HEADER, PARAMETER, PROXY)

FORMS: Final[Mapping[str, Callable[[str], str]]] = {
    "plain": str,
    "within words": lambda text: f"x{text}y",
    "quoted": lambda text: quote(text, safe=""),
    "in JSON": lambda text: json.dumps({"sent": f"Bearer {text}/"}).replace("/", "\\/"),
    "escaped": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "base64": lambda text: base64.b64encode(f"Bearer {text}".encode()).decode(),
}


def answered(**changed: Any) -> Reply:
    return Reply(200, {**answer(16), **changed})


def choice(**message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": "ok", **message}, "finish_reason": "stop"}


def error(**changed: Any) -> Reply:
    return Reply(400, {"error": {"message": "no", "type": "bad", **changed}})


def halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


PLACES: Final[Mapping[str, Callable[[str], Reply]]] = {
    "caption": lambda text: answered(choices=[choice(content=f"a cat {text} sits")]),
    "parts": lambda text: answered(choices=[choice(content=[{"type": "text", "text": half} for half in halves(text)])]),
    "choices": lambda text: answered(choices=[choice(content=half) for half in halves(text)]),
    "refusal": lambda text: answered(choices=[choice(content=None, refusal=f"no: {text}")]),
    "model": lambda text: answered(model=f"gpt-4o-{text}"),
    "provider": lambda text: answered(provider=text),
    "finish_reason": lambda text: answered(choices=[{**choice(), "finish_reason": text}]),
    "id": lambda text: answered(id=text),
    "x-request-id": lambda text: Reply(200, answer(16), {"x-request-id": text}),
    "usage": lambda text: answered(usage={text: text, "prompt_tokens": 5, "completion_tokens": 5}),
    "error inside": lambda text: answered(error={"message": f"said {text}", "code": 400}),
    "error message": lambda text: error(message=f"Incorrect key: {text}."),
    "error after 290 characters": lambda text: error(message="x " * 145 + text),
    "error code": lambda text: error(code=text, type=text),
    "error raw": lambda text: error(metadata={"raw": f'{{"error":"{text}"}}'}),
    "error details": lambda text: Reply(400, {"detail": [{"loc": ["header"], "msg": text}, text]}),
    "error request id": lambda text: Reply(400, {"error": {"message": "no"}}, {"request-id": text}),
    "HTML": lambda text: Reply(400, f"<html><b>Bad</b> request: {text}</html>".encode()),
    "text": lambda text: Reply(400, f"request headers: Authorization: Bearer {text}".encode()),
    "no JSON in a 400": lambda text: Reply(400, f'{{"error": {{"message": "{text}'.encode()),
}  # fmt: skip


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_what_a_server_repeats(keys: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Secrets x forms x places in responses: a whole run on them, through a proxy that wants a login."""
    cases = [(secret, form, place) for form in FORMS for place in PLACES for secret in SECRETS]
    numbers = count(16)
    replies = {next(numbers): PLACES[place](FORMS[form](secret)) for secret, form, place in cases}
    (tmp_path / "photos").mkdir()
    for width in replies:
        Image.new("RGB", (width, 16), (width % 256, width // 256, 90)).save(tmp_path / f"photos/{width}.png")
    with stub(replies.__getitem__) as server:
        code = app.exit_code(["run", "photos", "-o", "out", *at(server.url), "--set", "limits.max_error_rate=1"])
        assert code in {1, 4}
        asked = sum(server.asked.values())
        app.exit_code(["status", "out"])
        app.exit_code(["status", "out", "--json"])
    assert asked == len(cases) == len(SECRETS) * len(FORMS) * len(PLACES) == 480
    assert_clean(tmp_path / "out", capfd)
    rows = pd.read_parquet(tmp_path / "out/data")
    assert len(rows) == len(cases)
    assert rows.caption.dropna().str.contains("***", regex=False).any()
    assert (rows.caption == "a cat *** sits").sum() >= 2 * len(SECRETS)


def at(proxy: str) -> list[str]:
    """An endpoint behind a proxy, with a secret in every setting that may hold one."""
    login = proxy.replace("http://", f"http://me:{quote(PROXY, safe='')}@")
    return [
        *("--base-url", f"http://vision.example/v1?api_key={quote(PARAMETER, safe='')}", "--model", "gpt-4o"),
        *("--set", f'endpoint.headers={{"X-Gate"="{HEADER}"}}', "--set", f"endpoint.proxy={login}"),
        *("--set", f'request.extra={{user="{KEY}", nested={{name="{HEADER}"}}}}', "--concurrency", "8"),
    ]


REFUSALS: Final[Mapping[str, Callable[[str], Reply]]] = {
    "key refused": lambda text: Reply(401, {"error": {"message": f"Incorrect API key provided: {text}."}}),
    "redirect": lambda text: Reply(302, b"", {"Location": f"https://elsewhere.example/?code={quote(text, safe='')}"}),
    "unknown model": lambda text: Reply(404, {"error": {"message": f"model {text} does not exist", "code": text}}),
    "HTML": lambda text: Reply(403, f"<title>{text}</title>".encode()),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_a_refusal_repeats(
    refusal: str, keys: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """A run, a check and a rehearsal against a server that refuses and repeats what it was sent."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    reply = REFUSALS[refusal](" ".join(SECRETS))
    with stub(lambda _: reply) as server:
        server.get = lambda _: reply
        settings = at(server.url)
        assert app.exit_code(["run", "a.png", "-o", "out", *settings]) == 4
        unnamed = [word for word in settings if word not in {"--model", "gpt-4o"}]
        without_concurrency = settings[: settings.index("--concurrency")]
        assert app.exit_code(["check", *without_concurrency]) == 4
        assert app.exit_code(["run", "a.png", "-o", "out", *unnamed]) == 4
        assert app.exit_code(["status", "out"]) == 0
    assert_clean(tmp_path / "out", capfd)


IMAGE_PARAMETERS: Final = (
    *(
        "api_key",
        "code",
        "auth",
        "password",
        "token",
        "access_token",
        "key",
        "sig",
        "signature",
        "jwt",
        "pwd",
        "secret",
    ),
    *("X-Amz-Signature", "X-Amz-Security-Token", "X-Goog-Signature", "AWSAccessKeyId", "Policy", "subscription-key"),
)
IMAGE_SECRET: Final = "im4ge-s3cret"  # noqa: S105 - made up


def addresses(server: str) -> Iterator[str]:
    """Where an address can hold a secret; each differs from all others in a number."""
    numbers = count()
    host = server.removeprefix("http://")
    for name in IMAGE_PARAMETERS:
        for status in (200, 404):
            yield f"{server}/{status}/a.jpg?{name}={IMAGE_SECRET}&n={next(numbers)}"
            yield f"{server}/{status}/a.jpg?n={next(numbers)}#{name}={IMAGE_SECRET}"
            yield f"{server}/{status}/a.jpg?n={next(numbers)}&u={quote(f'http://h/?{name}={IMAGE_SECRET}', safe='')}"
    for login in (f"me:{IMAGE_SECRET}", IMAGE_SECRET, f"me:{IMAGE_SECRET}/x"):
        for status in (200, 404):
            yield f"http://{login}@{host}/{status}/a.jpg?n={next(numbers)}"


def test_addresses_of_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Secrets in a manifest's addresses reach no id, column, error or summary; what distinguishes images stays."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "picture.jpg")
    with stub(picture=(tmp_path / "picture.jpg").read_bytes()) as server:
        server.get = lambda path: Reply(404, b"gone") if "/404/" in path else None
        rows = [{"url": url, "page": f"see {url}", "thumb": url} for url in addresses(server.url)]
        (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
        arguments = ["--base-url", server.base_url, "--model", "gpt-4o"]
        assert app.exit_code(["run", "m.jsonl", "--dry-run", *arguments]) == 0
        assert app.exit_code(["run", "m.jsonl", "-o", "out", "--allow-private-hosts", *arguments]) == 1
        assert app.exit_code(["estimate", "m.jsonl", "--model", "gpt-4o", "--allow-private-hosts"]) == 0
        assert app.exit_code(["estimate", rows[0]["url"], "--model", "gpt-4o"]) == 0
    assert len(rows) == 6 * len(IMAGE_PARAMETERS) + 6 == 114
    assert_clean(tmp_path / "out", capfd, (IMAGE_SECRET,))
    kept = pd.read_parquet(tmp_path / "out/data")
    assert {int(number) for name in kept.id for number in re.findall(r"[?&]n=(\d+)", name)} == set(range(len(rows)))
    assert len(set(kept.id)) == len(rows)


@pytest.mark.parametrize(
    "mistake", ["sk-proj-mistake-0123456789", "gsk_mistake0123456789", "AIzaSyMistake0123456789", "0f9e8d7c6b5a"]
)
def test_a_key_in_place_of_its_variable(mistake: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A key given to --api-key-env is neither shown nor stored, also where the endpoint needs none."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with stub() as server:
        for url in (server.base_url, "https://vision.example/v1"):
            for command in (["run", "a.png", "-o", "out"], ["check"]):
                code = app.exit_code([*command, "--base-url", url, "--model", "gpt-4o", "--api-key-env", mistake])
                assert code in {0, 2}
        (tmp_path / "own.toml").write_text(f'[endpoint]\napi_key_env = "{mistake}"\napi_key = "{mistake}"\n')
        assert app.exit_code(["check", "-c", "own.toml"]) == 2
        assert app.exit_code(["check", "--set", f"api_key={mistake}"]) == 2
    assert_clean(tmp_path / "out", capfd, (mistake,))


def assert_clean(out: Path, capfd: pytest.CaptureFixture[str], secrets: tuple[str, ...] = SECRETS) -> None:
    """No form of a secret in any byte of OUT, in the values of its parts, or on the screen."""
    shown = capfd.readouterr()
    texts = {"standard output": shown.out, "standard error": shown.err}
    for file in (path for path in out.rglob("*") if path.is_file()):
        texts[str(file)] = file.read_bytes().decode("utf-8", "replace")
        if file.suffix == ".parquet":
            texts[f"values of {file}"] = repr(pd.read_parquet(file).to_dict("records"))
    for where, text in texts.items():
        for secret in secrets:
            for form in {name: write(secret) for name, write in FORMS.items() if name != "within words"}.values():
                assert form not in text, f"{form} in {where}"
                assert json.dumps(form)[1:-1] not in text, f"{form} in {where}"
