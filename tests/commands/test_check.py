"""`check`: every endpoint of a configuration and nothing else, in the provider's words."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

import pipeline
from pipeline import EndpointStoppedError, InputError
from tests.http_servers import serving
from tests.stub import Reply, answer, stub
from tests.support import Command

MODEL = ("--model", "gpt-4o")


def refusing(_: int) -> Reply:
    return Reply(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})


def test_every_endpoint_of_the_file_and_nothing_else(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with `[[endpoints]]` only: each is asked once, and the default address gets neither key nor request."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    with stub() as one, stub() as other:
        text = f'[request]\nmodel = "gpt-4o"\n[[endpoints]]\nbase_url = "{one.url}"\n'
        Path("w.toml").write_text(text)
        code, out, _ = command("check", "-c", "w.toml")
        assert (code, out.splitlines()[0]) == (0, f"endpoint    {one.base_url}: reachable, the request was accepted")
        Path("w.toml").write_text(f'{text}[[endpoints]]\nbase_url = "{other.url}"\n')
        code, out, err = command("check", "-c", "w.toml")
        assert (code, err) == (0, "")
        assert (one.paths, other.paths) == (["/v1/chat/completions"] * 2, ["/v1/chat/completions"])
    head, first, second, _, *details = out.splitlines()
    assert head.split() == ["endpoint", "result", "sees", "images", "tokens", "in", "ratio", "cost", "latency"]
    assert first.split()[:2] == [one.base_url, "ok"]
    assert second.split()[:2] == [other.base_url, "ok"]
    assert [line for line in details if line.startswith("endpoint ")] == [
        f"endpoint    {url}: reachable, the request was accepted" for url in (one.base_url, other.base_url)
    ]


def test_one_that_fails_does_not_hide_the_others(command: Command) -> None:
    """Exit code 4, the failure in the provider's words, and what the others answered; in JSON as a list."""
    with stub(refusing) as bad, stub() as good:
        both = ("--base-url", bad.url, "--base-url", good.url, *MODEL)
        code, out, err = command("check", *both)
        assert code == 4
        words = "Incorrect API key provided - the key was refused"
        assert f"endpoint    {bad.base_url}: failed\nerror       {words}" in out
        assert f"endpoint    {good.base_url}: reachable" in out
        assert err == "vision-batch: 1 of 2 endpoints failed: see above\n"
        code, out, _ = command("check", *both, "--json")
        reports = json.loads(out)
        assert code == 4
        assert [(report["endpoint"], report["error"] is None) for report in reports] == [
            (bad.base_url, False),
            (good.base_url, True),
        ]
        assert len(good.paths) == len(bad.paths) == 2


def test_one_endpoint_is_reported_as_ever(command: Command) -> None:
    """A failure is one line on standard error; in JSON the report is an object."""
    with stub(refusing) as bad, stub() as good:
        code, out, err = command("check", "--base-url", bad.url, *MODEL)
        assert (code, out, err[:40]) == (4, "", "vision-batch: Incorrect API key provided")
        assert json.loads(command("check", "--base-url", good.url, *MODEL, "--json")[1])["endpoint"] == good.base_url


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_the_table_fits_the_terminal(command: Command, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Long addresses lose their middle; the columns stand below each other."""
    monkeypatch.setattr("pipeline.estimates.render.text.terminal_columns", lambda: columns)
    with stub() as server:
        urls = [f"{server.url}/a-very-long-path-of-a-gateway-{'x' * 60}/{n}/v1" for n in (1, 2)]
        _, out, _ = command("check", "--base-url", urls[0], "--base-url", urls[1], *MODEL)
    head, *rows = out.splitlines()[:3]
    assert all(len(line) <= columns for line in (head, *rows))
    assert [row[head.index("result") :].split()[0] for row in rows] == ["ok", "ok"]
    assert [row.split()[0][-4:] for row in rows] == ["1/v1", "2/v1"]


def test_a_missing_key_is_said_before_anything_is_sent(command: Command) -> None:
    """As in a run: exit code 2, although the other endpoint could be asked."""
    with stub() as server:
        code, _, err = command("check", "--base-url", server.url, "--base-url", "https://other.example", *MODEL)
        assert (code, server.paths) == (2, [])
        assert "no key for https://other.example/v1" in err


def test_from_python_as_well() -> None:
    """`check` is for one endpoint and says so; `check_endpoints` reports on each."""
    with stub() as one, stub(refusing) as bad:
        with pytest.raises(InputError, match="the configuration has 2 endpoints: check_endpoints"):
            pipeline.check(base_url=[one.url, bad.url], model="gpt-4o")
        good, failed = pipeline.check_endpoints(base_url=[one.url, bad.url], model="gpt-4o")
        assert (good.error, failed.error is None) == (None, False)
        with pytest.raises(EndpointStoppedError, match="Incorrect API key"):
            pipeline.check(base_url=bad.url, model="gpt-4o")


# ---------------------------------------------------------------- a list of models that does not come


@contextmanager
def broken_list(status: int = 500) -> Iterator[str]:
    """A server that answers chat/completions, and `GET /models` with an error and a closed connection, unannounced."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(status, {"error": {"message": "the list is broken"}})
            self.close_connection = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send(200, answer(256))

        def send(self, code: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as url:
        yield url


def test_a_list_that_closes_the_connection_breaks_no_request(command: Command) -> None:
    """A model that no catalogue knows is looked up in the list; that it fails is no reason to fail the request."""
    with broken_list() as url:
        for _ in range(5):
            assert command("check", "--base-url", url, "--model", "private-model")[0] == 0


@pytest.mark.parametrize("status", [500, 404, 403, 401, 429, 200])
def test_a_list_that_fails_says_to_name_the_model(command: Command, status: int) -> None:
    """Without a model the list is needed: exit code 4, the server's words, and the way out."""
    with broken_list(status) as url:
        code, _, err = command("check", "--base-url", url)
    assert code == 4
    assert "no model is named, and the endpoint's list of models cannot be read: " in err
    assert "the list is broken" in err
    assert err.endswith("; name the model with --model\n")
