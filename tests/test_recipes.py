"""The recipes of docs/extending.md: their code as it stands there, registered and run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.endpoints.adapter import ADAPTERS
from pipeline.errors import InputError
from pipeline.sources.formats import FORMATS, Format
from tests.http_servers import serving
from tests.recipes import block
from tests.support import Command, MakeImage

NOWHERE = "http://127.0.0.1:9/v1"


def module(heading: str) -> dict[str, Any]:
    """What the file of a recipe defines."""
    names: dict[str, Any] = {"__name__": heading.lower().replace(" ", "_")}
    exec(compile(block(heading, "python"), f"docs/extending.md: {heading}", "exec"), names)  # noqa: S102 - our own documentation
    return names


def test_a_source(make_image: MakeImage, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file and its registration: a list of paths is run over, and its errors name its unit."""
    monkeypatch.setitem(FORMATS, ".null", Format(module("A source")["read_null_separated"], unit="path"))
    names = [make_image(f"photos/{number}.jpg", 40 + number, 30, seed=number).name for number in range(3)]
    listed = tmp_path / "photos/list.null"
    listed.write_bytes("\0".join([*names, ""]).encode())
    summary = pipeline.run(listed, out=tmp_path / "out", model="gpt-4o", base_url=endpoint, quiet=True)
    assert (summary.exit_code, summary.images, summary.requests) == (0, 3, 3)
    assert sorted(pipeline.read(tmp_path / "out").id) == names
    assert pipeline.estimate(listed, models="gpt-4o").readable.expected == 3
    listed.write_bytes(b"a.jpg\0b.jpg\0a.jpg\0")
    with pytest.raises(InputError, match=r"id 'a\.jpg' on paths 1 and 3"):
        pipeline.run(listed, out=tmp_path / "other", model="gpt-4o", base_url=endpoint, quiet=True)


@contextmanager
def recap_server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server of the recipe's API; the first request is throttled. Yields its base URL and the bodies it got."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append({"path": self.path, **body})
            throttled = len(bodies) == 1
            reply = json.dumps({"text": f"{len(body['pictures'])} picture", "tokens": [100, 5]}).encode()
            self.send_response(429 if throttled else 200)
            if throttled:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as url:
        yield f"{url}/v1", bodies


def test_an_endpoint_adapter(
    make_image: MakeImage, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file, its registration and a preset: another path and another body, in a run, a check and a preview."""
    monkeypatch.setitem(ADAPTERS, "recap", module("An endpoint adapter")["RECAP"])
    for number in range(3):
        make_image(f"photos/{number}.jpg", 40 + number, 30, seed=number)
    with recap_server() as (url, bodies):
        preset = block("An endpoint adapter", "toml").replace("http://127.0.0.1:8080/v1", url)
        Path("recap.toml").write_text(
            f"{preset}\n[[prices.models]]\nmodel = 'recap-1'\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 10\n"
        )
        summary = pipeline.run("photos", out="out", config="recap.toml", quiet=True)
        assert (summary.exit_code, summary.requests, summary.rate_limited) == (0, 4, 1)
        assert {(body["path"], body["model"]) for body in bodies} == {("/v1/recap", "recap-1")}
        rows = pipeline.read("out")
        assert set(rows.caption) == {"1 picture"}
        assert list(rows.cost_usd) == [pytest.approx(0.00015)] * 3
        report = pipeline.check(config="recap.toml")
        assert (report.answer, report.prompt_tokens) == ("1 picture", 100)
        code, shown, _ = command("run", "photos", "--dry-run", "-c", "recap.toml")
        assert code == 0
        assert "/v1/recap (nothing is sent now):" in shown
        assert '"task"' in shown
        assert command("estimate", "photos", "-c", "recap.toml")[0] == 0


def test_an_adapter_that_is_not_registered(make_image: MakeImage, command: Command) -> None:
    """Exit 2 with the known names, before anything is sent; so for endpoints that cannot share their requests."""
    make_image("photos/a.jpg")
    code, _, stderr = command(
        "run", "photos", "-o", "out", "--model", "m", "--base-url", NOWHERE, "--set", "endpoint.api=chatt"
    )
    assert (code, "endpoint.api: 'chatt' is not known; known: chat" in stderr) == (2, True)
    Path("two.toml").write_text(
        '[request]\nmodel = "m"\n[[endpoints]]\nbase_url = "http://127.0.0.1:9/v1"\n'
        '[[endpoints]]\nbase_url = "http://127.0.0.1:8/v1"\napi = "other"\n'
    )
    code, _, stderr = command("run", "photos", "-o", "out", "-c", "two.toml")
    assert (code, "the endpoints of one run share their requests" in stderr) == (2, True)
