"""The viewer's server: who may ask it, what it answers, and how it ends."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, build_opener

import pytest

import pipeline
from tests.builders import ask
from tests.support import ROOT, Command, MakeImage
from tests.viewers import viewed

SECURE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def asked(url: str, *, headers: dict[str, str] | None = None, data: object = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer, whatever its status."""
    body = None if data is None else json.dumps(data).encode()
    request = Request(url, data=body, headers=headers or {})  # noqa: S310 - loopback
    try:
        with build_opener().open(request, timeout=20) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def rows(url: str, **query: str) -> dict[str, Any]:
    status, _, body = asked(f"{url}rows?{urlencode(query)}")
    found: dict[str, Any] = json.loads(body)
    assert status == 200, found
    return found


def reviewing(url: str) -> dict[str, str]:
    """The headers of the page's own requests."""
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    return {"Origin": origin, "Content-Type": "application/json"}


@pytest.fixture
def out(make_image: MakeImage, endpoint: str) -> Path:
    for name in ("a.jpg", "b.jpg"):
        make_image(f"photos/{name}")
    ask("photos", endpoint, concurrency=1)
    return Path("out")


def test_who_may_ask(out: Path) -> None:
    """Only with the token, under a name of this machine, and for changes only from the viewer's own page."""
    with viewed(out) as viewer:
        url, own = viewer.url, reviewing(viewer.url)
        base = own["Origin"]
        status, headers, html = asked(url)
        assert status == 200
        assert b"<h1>out</h1>" in html
        assert SECURE.items() <= headers.items()
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "Access-Control-Allow-Origin" not in headers
        for path in ("", "/", "/rows", "/favicon.ico", "/open/x", "/open/", f"/{'x' * 43}/rows", f"/{'é' * 20}/"):
            status, headers, body = asked(base + path.encode().decode("latin-1").replace("Ã©", "%C3%A9"))
            assert (status, body) == (403, b"This needs the address that `vision-batch view` has printed.\n"), path
            assert SECURE.items() <= headers.items()
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", "", "[", "169.254.169.254"):
            assert asked(url, headers={"Host": host})[0] in {400, 403}, host
        for host in ("localhost:9", "127.0.0.1", "[::1]:80"):
            assert asked(url, headers={"Host": host})[0] == 200, host
        row = rows(url)["rows"][0]
        review = {
            "id": row["id"],
            "prompt": "caption",
            "at": row["at"],
            "answered_at": row["answered_at"],
            "mark": "good",
        }
        for headers in (
            {"Content-Type": "application/json"},
            own | {"Origin": "null"},
            own | {"Origin": "http://evil.example"},
            own | {"Origin": base.replace("127.0.0.1", "localhost")},
            own | {"Content-Type": "text/plain"},
        ):
            assert asked(f"{url}reviews", headers=headers, data=review)[0] == 403, headers
        assert not Path("out/reviews").exists()
        assert asked(f"{url}reviews", headers=own, data=review)[0] == 200
        once = build_opener().open(viewer.url_once, timeout=20)
        assert once.url == url
        once.close()
        assert asked(viewer.url_once)[0] == 403


def test_what_is_no_request(out: Path) -> None:
    """Each mistake is one line of JSON, and changes nothing."""
    with viewed(out) as viewer:
        url, own = viewer.url, reviewing(viewer.url)
        first = rows(url)["rows"][0]
        key = {"id": first["id"], "prompt": "caption", "at": first["at"], "answered_at": first["answered_at"]}
        for path, said in (
            ("rows?page=-1", "no whole number"),
            ("rows?page=9999999999", "no whole number"),
            ("rows?order=size", "order: 'size' is none of cost"),
            ("rows?mark=fine", "mark: 'fine' is none of good"),
            ("rows?where=1", "where: "),
            (f"rows?q={'x' * 1001}", "more than 1,000 characters"),
            ("row?id=a.jpg", "a row is named by"),
            ("row?id=z.jpg&prompt=caption&at=0.7", "z.jpg: this row is no longer in out"),
            ("picture?id=a.jpg&prompt=caption&at=0.0&size=original", "is none of small, large"),
        ):
            status, _, body = asked(url + path)
            assert status == 400, path
            assert said in json.loads(body)["error"], path
        for changes, said in (
            ({"mark": "fine"}, "a review has a mark"),
            ({"caption": 7}, "a review has a mark"),
            ({"caption": " \n"}, "cannot be empty"),
            ({"answered_at": 1}, "a run has replaced this answer"),
            ({"id": "z.jpg"}, "no longer in out"),
        ):
            status, _, body = asked(f"{url}reviews", headers=own, data=key | changes)
            assert status == 400, changes
            assert said in json.loads(body)["error"], changes
        assert asked(f"{url}reviews", headers=own, data=[1])[0] == 400
        assert asked(f"{url}reviews", headers=own, data={"caption": "x" * 2_000_000})[0] == 413
        assert asked(f"{url}data/part-00000.parquet")[0] == 404
    assert pipeline.reviews("out").empty


def test_pictures_are_made_anew(make_image: MakeImage, endpoint: str) -> None:
    """A JPEG of our own, whatever the file is: also of one that is text for a browser; never the file itself."""
    make_image("photos/a.jpg", 2400, 1200, comment=b"<script>alert(1)</script>")
    make_image("photos/b.png", 40, 30)
    Path("photos/c.jpg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    ask("photos", endpoint)
    Path("photos/b.png").write_bytes(Path("photos/a.jpg").read_bytes())
    with viewed("out") as viewer:
        pictures = {}
        for row in rows(viewer.url)["rows"]:
            for size in ("small", "large"):
                query = urlencode({"id": row["id"], "prompt": row["prompt"], "at": row["at"], "size": size})
                pictures[row["id"], size] = asked(f"{viewer.url}picture?{query}")
    status, headers, body = pictures["a.jpg", "small"]
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert body.startswith(b"\xff\xd8")
    assert b"script" not in body
    assert len(body) < len(pictures["a.jpg", "large"][2])
    for name, said in (("b.png", b"has changed since"), ("c.jpg", b"The run read no image for this row.")):
        status, headers, body = pictures[name, "small"]
        assert (status, headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
        assert said in body


def test_the_command_ends_calmly(out: Path, command: Command) -> None:
    """Ctrl-C is exit code 0; a port in use, and what is no output directory, are one line and exit code 2."""
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    words = [sys.executable, "-m", "pipeline", "view", "out", "--no-browser"]
    with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("out: 2 rows at http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (0, "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, said = command("view", "out", "--port", str(port), "--no-browser")
    assert (code, said) == (
        2,
        f"vision-batch: --port {port} is in use; name another port, or none to take a free one\n",
    )
    code, _, said = command("view", "photos", "--no-browser")
    assert code == 2
    assert said.count("\n") == 1
