"""Datasets of the Hugging Face hub: a server on this machine with its listing, its files and its redirects."""

import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pandas as pd
import pytest
from PIL import Image

import pipeline
from pipeline.errors import InputError
from pipeline.http.hub import HubDataset
from pipeline.sources import open_source
from tests.builders import ask
from tests.http_servers import serving

TOKEN = "hf_0123456789abcdef"  # noqa: S105 - of no account


def picture(width: int = 40) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, 30), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def table(*images: object) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame({"image": list(images), "title": [str(image)[:9].upper() for image in images]}).to_parquet(buffer)
    return buffer.getvalue()


SETS = {
    "o/photos": {"a.jpg": picture(), "b/ü 1.jpg": picture(50), "README.md": b"", ".cache/c.jpg": picture()},
    "o/tables": {"data/0.parquet": table("../a.jpg", "../b.jpg"), "data/1.parquet": table("../a.jpg"),
                 "a.jpg": picture(), "b.jpg": picture(), "list.csv": b"image\na.jpg\n"},
    "o/inside": {f"{n}.parquet": table({"bytes": picture(40 + n), "path": None}) for n in range(2)},
    "o/foreign": {"0.parquet": table({"bytes": None, "path": "/etc/passwd"}, {"bytes": b"x", "path": ""})},
    "o/empty": {"README.md": b""},
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """Lists one file a page; files are behind a redirect to another host name."""

    asked: ClassVar[list[tuple[str, str | None]]]

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.asked.append((path.split("/")[1], self.headers.get("Authorization")))
        kind, *parts = path.strip("/").split("/")
        if kind == "api":
            files = SETS.get("/".join(parts[1:3]))
            if files is None or self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(b"", 401)
                return
            at = int(query.rpartition("cursor=")[2]) if "cursor=" in query else 0
            listed = [{"type": "directory", "path": "b"}, {"type": "file", "path": list(files)[at], "size": 1}]
            host = f"http://{self.headers['Host']}"
            more = {"Link": f'<{host}{path}?cursor={at + 1}>; rel="next"'} if at + 1 < len(files) else {}
            self.reply(json.dumps(listed).encode(), 200, more)
        elif kind == "datasets":
            host = f"http://localhost:{self.headers['Host'].rpartition(':')[2]}" if "photos" in path else ""
            self.reply(b"", 302, {"Location": f"{host}/cdn/{'/'.join(parts)}?X-Amz-Signature=s3cret"})
        else:
            owner, name, _, _, *file = parts
            self.reply(SETS[f"{owner}/{name}"]["/".join(file).replace("%C3%BC%20", "ü ")])

    def reply(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Own(Hub):
        asked: ClassVar[list[tuple[str, str | None]]] = []

    with serving(Own) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield Own


def test_images_of_a_dataset(hub: type[Hub], endpoint: str) -> None:
    """Each file that is an image, over pages of the listing; the token goes to the hub, and not where it redirects."""
    ids = ["hf://datasets/o/photos/a.jpg", "hf://datasets/o/photos/b/ü 1.jpg"]
    assert open_source("hf://datasets/o/photos").check() == 2
    assert ask("hf://datasets/o/photos", endpoint, allow_private_hosts=True).by_status == {"ok": 2}
    assert sorted(pipeline.read("out").id) == ids
    logins = {kind: {login for one, login in hub.asked if one == kind} for kind in ("api", "datasets", "cdn")}
    assert logins == {"api": {f"Bearer {TOKEN}"}, "datasets": {f"Bearer {TOKEN}"}, "cdn": {None}}
    assert TOKEN not in pipeline.read("out").to_csv()


@pytest.mark.usefixtures("hub")
def test_tables_of_a_dataset(endpoint: str) -> None:
    """Parquet files one after the other, whose relative names lie beside them; a single manifest."""
    source = open_source("hf://datasets/o/tables")
    assert source.check() is None
    assert ask("hf://datasets/o/tables", endpoint).by_status == {"ok": 3}
    assert ask("hf://datasets/o/tables", endpoint).requests == 0
    assert pipeline.estimate("hf://datasets/o/tables", model="gpt-4o").images == 3
    rows = pipeline.read("out").set_index("id")
    assert list(rows.sort_index().title) == ["../A.JPG", "../B.JPG", "../A.JPG"]
    assert "hf://datasets/o/tables/data/1.parquet/../a.jpg" in rows.index
    assert ask("hf://datasets/o/tables/list.csv", endpoint, out="one").by_status == {"ok": 1}


@pytest.mark.usefixtures("hub")
def test_images_inside_of_tables(endpoint: str) -> None:
    """Each file's rows under its own name; a row without bytes names no file of this machine."""
    assert ask("hf://datasets/o/inside", endpoint).by_status == {"ok": 2}
    rows = pipeline.read("out").set_index("id")
    assert dict(rows.width) == {f"hf://datasets/o/inside/{n}.parquet#1": 40 + n for n in range(2)}
    with pytest.raises(InputError, match="names a file of this machine"):
        ask("hf://datasets/o/foreign", endpoint, out="foreign")


def test_what_the_hub_does_not_have(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, with the way out."""
    for name, words in (
        ("o/none", "the hub does not list it: HTTP 401 Unauthorized; a private dataset needs HF_TOKEN"),
        ("o/empty", "no Parquet files and no images here"),
    ):
        with pytest.raises(InputError, match=words):
            open_source(f"hf://datasets/{name}").check()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="the hub does not list it: no server listens"):
        open_source("hf://datasets/o/photos").check()
    assert HubDataset.of("hf://datasets/o/n@v1/data") == HubDataset("o/n", "v1", "data")
    for spec in ("hf://datasets/o", "hf://models/o/n"):
        with pytest.raises(InputError, match="no dataset of the hub; write hf://datasets/OWNER/NAME"):
            open_source(spec)
