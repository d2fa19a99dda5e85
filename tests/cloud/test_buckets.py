"""Images and manifests in a bucket: a real object-store server on this machine, moto's."""

import asyncio
import gc
import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import pipeline
from pipeline.cloud import stores
from pipeline.cloud.stores import ObjectAddress
from pipeline.config import extras
from pipeline.errors import ErrorKind, InputError
from pipeline.files import record_stamp
from pipeline.images.fetch import fetch
from pipeline.records import Failure
from pipeline.sources import copies, open_source, passed_over
from tests.buckets import SECRET, environment, object_store, put
from tests.builders import ask
from tests.containers import tar_of
from tests.image_hosts import HERE, image_host, image_hosts
from tests.support import Command, MakeImage


def picture(width: int = 64, height: int = 48, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (width % 256, 99, 7)).save(buffer, kind)
    return buffer.getvalue()


PHOTO = picture()
KEYS = {
    "photos/": b"", "photos/a.jpg": PHOTO, "photos/deep/b.PNG": picture(40, 30, "PNG"),
    "photos/été à la mer.jpg": PHOTO,
    "photos/q?&#%20.jpg": PHOTO, "photos/.hidden/c.jpg": PHOTO, "photos/.d.jpg": PHOTO, "photos/notes.txt": b"no",
    "photosx/e.jpg": PHOTO, "flawed/empty.jpg": b"", "flawed/cut.jpg": PHOTO[:-40], "flawed/large.jpg": bytes(300_000),
    "docs/notes.md": b"no images",
}  # fmt: skip


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Its address."""
    with object_store(KEYS) as url:
        yield url


@pytest.fixture
def bucket(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment as a user has it."""
    for name, value in environment(store).items():
        monkeypatch.setenv(name, value)
    return store


@pytest.mark.usefixtures("bucket")
def test_a_prefix_is_a_source(endpoint: str, command: Command) -> None:
    """All images below it, in the store's order, under their addresses; a glob; one object; an estimate; a resume."""
    expected = ["s3://bucket/photos/a.jpg", "s3://bucket/photos/deep/b.PNG", "s3://bucket/photos/q?&#%20.jpg",
                "s3://bucket/photos/été à la mer.jpg"]  # fmt: skip
    for spec in ("s3://bucket/photos", "S3://bucket/photos/"):
        source = open_source(spec)
        assert [record.id for record in source.records()] == expected
        assert (source.check(), dict(passed_over(source))) == (4, {".txt": 1})
    assert [record.id for record in open_source("s3://bucket/photos/*.jpg").records()] == [expected[0], *expected[2:]]
    assert [record.id for record in open_source("s3://bucket/**/b.*").records()] == [expected[1]]
    assert ask("s3://bucket/photos", endpoint).by_status == {"ok": 4}
    assert ask("s3://bucket/photos", endpoint).requests == 0
    rows = pipeline.read("out").set_index("id")
    assert list(rows.loc[expected[1], ["width", "height", "image"]]) == [40, 30, expected[1]]
    code, shown, _ = command("estimate", "s3://bucket/photos", "--model", "gpt-4o")
    assert (code, "4 images" in shown) == (0, True)
    assert ask(expected[0], endpoint, out="one").by_status == {"ok": 1}
    for spec, words in (
        ("s3://bucket/docs", "no images here; other objects: 1 .md. Objects count"),
        ("s3://bucket/none/", "no images here"),
        ("s3://gone/photos", "cannot be listed: no such bucket"),
        ("s3:///photos", "no bucket; write s3://BUCKET/KEY"),
        ("s3://bucket/shards/a.zip", "this kind of archive is not read from an address"),
    ):
        with pytest.raises(InputError, match=words):
            open_source(spec).check()


@pytest.mark.parametrize("key", ["odd1//dbl.jpg", "odd2/../up.jpg", "odd3/tab\t.jpg"])
def test_a_key_that_cannot_be_listed(bucket: str, key: str) -> None:
    """One line that names the object and the way out, in no words of a library."""
    prefix = key[:4]
    put(bucket, f"{prefix}/a.jpg", PHOTO)
    put(bucket, key, PHOTO)
    with pytest.raises(InputError) as raised:
        open_source(f"s3://bucket/{prefix}/").check()
    assert str(raised.value) == (
        f"s3://bucket/{prefix}: cannot be listed, because of the object with the key {key!r}: no part of "
        "a key may be empty, '.' or '..', or hold a control character; rename the object, or name the other images in "
        "a manifest"
    )


def test_shards_in_a_bucket(bucket: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy after the other, each gone once its images are read; what is missing or cut short names its address."""
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    tars = [tar_of([(f"{at}.jpg", PHOTO), (f"{at}.txt", b"a quay")]) for at in range(3)]
    for at, data in enumerate(tars):
        put(bucket, f"shards/t-{at}.tar", data)
    put(bucket, "shards/p.tar.gz", gzip.compress(tars[0]))
    put(bucket, "shards/cut.tar", tars[1][:1_000])
    spec = "s3://bucket/shards/t-{0..2}.tar"
    assert ask(spec, endpoint, prompt="Describe {{ txt }}.").by_status == {"ok": 3}
    assert sorted(pipeline.read("out").id) == ["t-0/0", "t-1/1", "t-2/2"]
    assert ask(spec, endpoint, prompt="Describe {{ txt }}.").requests == 0
    assert ask("s3://bucket/shards/p.tar.gz", endpoint, out="packed").by_status == {"ok": 1}
    gc.collect()
    assert list(copies.iterdir()) == []
    for name, words in (("t-9.tar", "t-9.tar: "), ("cut.tar", "s3://bucket/shards/cut.tar: damaged at byte")):
        with pytest.raises(InputError, match=words):
            ask(f"s3://bucket/shards/{name}", endpoint, out="flawed")


@pytest.mark.usefixtures("bucket")
def test_a_manifest_names_objects(endpoint: str) -> None:
    """Beside files; what is missing, empty, cut short or too large is a row of its own kind."""
    names = [
        "photos/a.jpg",
        "gone.jpg",
        "flawed/empty.jpg",
        "flawed/cut.jpg",
        "flawed/large.jpg",
        "",
        "a//b.jpg",
        "../x.jpg",
    ]
    Path("list.txt").write_text("\n".join(f"s3://bucket/{name}" for name in names) + "\ns3://no-bucket/a.jpg\n")
    summary = ask("list.txt", endpoint, overrides={"images.max_file_mb": 0.2})
    assert summary.by_status["ok"] == 1
    rows = pipeline.read("out").set_index("id")
    kinds = {str(name).removeprefix("s3://bucket/"): kind for name, kind in rows.error_kind.fillna("").items()}
    assert kinds == {
        "photos/a.jpg": "", "gone.jpg": "image_missing", "flawed/empty.jpg": "image_empty",
        "flawed/cut.jpg": "image_truncated", "flawed/large.jpg": "fetch_too_large", "": "image_unsupported",
        "a//b.jpg": "image_unsupported", "../x.jpg": "image_unsupported", "s3://no-bucket/a.jpg": "image_missing",
    }  # fmt: skip
    assert rows.loc["s3://no-bucket/a.jpg"].error_message.endswith("no such bucket")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.jsonl.gz", "m.parquet", "m.txt"])
def test_a_manifest_in_a_bucket(bucket: str, endpoint: str, name: str, tmp_path: Path) -> None:
    """Relative names lie beside it; each row keeps its id and its columns."""
    images = ["a.jpg", "deep/../deep/b.PNG", "s3://bucket/photosx/e.jpg"]
    frame = pd.DataFrame({"image": images, "title": list("abc")})
    path = tmp_path / name
    if ".jsonl" in name:
        frame.to_json(path, orient="records", lines=True)
    elif name == "m.parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, columns=["image"] if name == "m.txt" else None, header=name != "m.txt")
    put(bucket, f"photos/{name}", path.read_bytes())
    path.unlink()
    assert ask(f"s3://bucket/photos/{name}", endpoint).by_status == {"ok": 3}
    assert sorted(pipeline.read("out").id) == sorted(images)


def test_manifests_from_elsewhere_name_no_local_files(
    bucket: str, make_image: MakeImage, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a path, nor `file:`: exit 2 before anything is sent, at an address and in a bucket."""
    local = make_image("secret.jpg")
    for number, name in enumerate(
        [str(local), local.as_uri(), "/etc/passwd", "file:///etc/passwd", "FILE://localhost/x"]
    ):
        put(bucket, f"bad{number}.csv", f"image,n\n{name},1\n".encode())
        put(bucket, f"bad{number}.jsonl", json.dumps({"image": ["a.jpg", name]}).encode())
        for suffix in ("csv", "jsonl"):
            code, _, said = command("estimate", f"s3://bucket/bad{number}.{suffix}", "--model", "gpt-4o")
            assert (code, said.count("names a file of this machine")) == (2, 1)
    with image_host({"/bad.csv": f"image\n{local}\n".encode(), "/page.csv": 404}) as (url, _):
        code, _, said = command("estimate", f"{url}/bad.csv", "--model", "gpt-4o")
        assert (code, "names a file of this machine" in said) == (2, True)
        code, _, said = command("estimate", f"{url}/page.csv?sig=s3cret", "--model", "gpt-4o")
        assert (code, "cannot be fetched: HTTP 404" in said, "s3cret" in said) == (2, True, False)
        monkeypatch.setattr(copies, "MOST_BYTES", 10)
        assert "more than 10 bytes" in command("estimate", f"{url}/bad.csv", "--model", "gpt-4o")[2]
        assert "more than 10" in command("estimate", "s3://bucket/bad0.csv", "--model", "gpt-4o")[2]


def test_a_manifest_at_an_address(endpoint: str) -> None:
    """Relative names lie beside it and belong to the host that the user named; other private hosts stay closed."""
    files: dict[str, bytes | int | str] = {
        "/sets/m.csv": b"image\na.jpg\nsub dir/b.jpg\nhttp://127.0.0.1:9/x.jpg\n../up.jpg\n",
        "/sets/a.jpg": PHOTO, "/sets/sub%20dir/b.jpg": PHOTO, "/up.jpg": PHOTO,
    }  # fmt: skip
    with image_host(files) as (url, _):
        summary = ask(f"{url}/sets/m.csv?signature=s3cret", endpoint)
        assert (summary.by_status["ok"], summary.by_error) == (3, {"fetch_forbidden": 1})
        assert ask(
            f"{url}/sets/m.csv", endpoint, out="all", overrides={**HERE, "request.max_failures": 1}
        ).by_error == {"fetch_failed": 1}


def test_without_the_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line before anything starts: for a bucket, and for a row of a manifest."""
    extras.has_cloud_extra.cache_clear()
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    try:
        Path("list.csv").write_text("image\na.jpg\ngs://bucket/a.jpg\n")
        for source in ("s3://bucket/photos/", "az://box/m.csv", "list.csv"):
            code, _, said = command("estimate", source, "--model", "gpt-4o")
            assert (code, said.count("\n"), "pip install 'vision-batch[cloud]'" in said) == (2, 1, True)
    finally:
        extras.has_cloud_extra.cache_clear()


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("Generic S3 error: ... Server returned non-2xx status code: 503 Slow Down: <?xml?><Code>SlowDown</Code>",
         ErrorKind.FETCH_STATUS, "the store answers: HTTP 503 (SlowDown)"),
        ("Generic S3 error: GET http://h/b/k - operation timed out\n\nDebug source:\nX",
         ErrorKind.FETCH_TIMEOUT, "GET http://h/b/k - operation timed out"),
        ("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token - status code: 403",
         ErrorKind.FETCH_STATUS, stores._NO_CREDENTIALS),
        (f"Generic error: {SECRET} and http://h/k?X-Amz-Signature=abcdef", ErrorKind.FETCH_FAILED,
         "Generic error: *** and http://h/k"),
    ],
)  # fmt: skip
def test_errors_of_a_store(bucket: str, text: str, kind: ErrorKind, words: str) -> None:
    """Kind and words, without a server's own words, addresses' signatures and keys."""
    stores._redactor.cache_clear()
    found = stores.failure_of(RuntimeError(text))
    assert (found.kind, found.message) == (kind, words)


async def test_a_store_that_denies_or_is_not_there(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is in a message; the kind is the one that a run acts on."""
    files: dict[str, bytes | int | str] = {"/bucket/a.jpg": 403, "/bucket/b.jpg": 400}
    with image_host(files) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        async with image_hosts(timeout_s=5) as hosts:
            kinds = []
            for key in ("a.jpg", "b.jpg"):
                found = await fetch(hosts, f"s3://bucket/{key}", 1000)
                assert isinstance(found, Failure)
                kinds.append((found.kind, found.status))
    assert kinds == [(ErrorKind.FETCH_STATUS, 403), (ErrorKind.FETCH_STATUS, 400)]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    async with image_hosts(timeout_s=20) as hosts:
        found = await fetch(hosts, "s3://bucket/a.jpg", 1000)
    assert isinstance(found, Failure)
    assert found.kind is ErrorKind.FETCH_FAILED
    assert found.message == (
        "s3://bucket/a.jpg: no connection to http://127.0.0.1:9; check the network, and the endpoint in the environment"
    )
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InputError, match=r"az://box: no account in the environment: set AZURE_STORAGE_ACCOUNT_NAME$"):
        open_source("az://box/photos/").check()


def test_addresses_of_objects() -> None:
    """The key is as it stands, and one that the library would change is none."""
    assert ObjectAddress.of("https://a/b") is None
    assert ObjectAddress.of("s3://") is None
    found = ObjectAddress.of("GS://b-1.x/a b?c#d%20")
    assert (str(found), found and found.names_object) == ("gs://b-1.x/a b?c#d%20", True)
    for key in ("", "/a", "a/", "a//b", "a/../b", "./a"):
        assert not ObjectAddress("s3", "b", key).names_object


@pytest.mark.parametrize(
    ("sent", "kinds"),
    [
        (b"Content-Length: 99\r\n", {ErrorKind.FETCH_FAILED, ErrorKind.FETCH_TIMEOUT}),
        (b"Content-Length: 999999\r\n", {ErrorKind.FETCH_TOO_LARGE}),
        (b"", {ErrorKind.FETCH_FAILED}),
        (b"hang", {ErrorKind.FETCH_TIMEOUT}),
    ],
)
async def test_objects_that_end_early(sent: bytes, kinds: set[ErrorKind], monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a part of an object that passes for all of it; a store that hangs has the time of an image."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if sent == b"hang":
            await reader.read()
        date = b"Last-Modified: Sun, 01 Nov 2026 00:00:00 GMT\r\nETag: x\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n" + date + sent + b"\r\nshort")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        for name, value in environment(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}").items():
            monkeypatch.setenv(name, value)
        async with image_hosts(timeout_s=0.8) as hosts:
            found = await fetch(hosts, "s3://bucket/a.jpg", 1000)
        for writer in writers:  # the library may keep its connection
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    assert isinstance(found, Failure)
    assert found.kind in kinds, found.message


def test_a_copy_of_the_same_bytes_is_the_same_file() -> None:
    """To `--refresh-changed` a remote shard has changed only where its bytes have, whenever it is copied."""
    files: dict[str, bytes | int | str] = {"/a.tar": tar_of([("a.jpg", b"one")])}
    with image_host(files) as (url, _):
        same = [record_stamp(record) for _ in range(2) for record in open_source(f"{url}/a.tar").records()]
        files["/a.tar"] = tar_of([("a.jpg", b"two")])
        other = [record_stamp(record) for record in open_source(f"{url}/a.tar").records()]
    assert same[0] == same[1] != other[0]
    assert None not in same
