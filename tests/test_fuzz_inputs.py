"""Hundreds of odd settings, addresses and manifests: each is used or refused in one line; none is a bug of ours.

`VISION_BATCH_FUZZ=20` tries twenty times as many. A failure names its seed and case; the same seed gives the same case.
"""

import io
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from pipeline.config.prices import OwnPrice
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig, SourceConfig
from pipeline.errors import InputError
from pipeline.sources import open_source
from pipeline.store.outdir import to_toml
from tests.stub import Stub, stub
from tests.support import Command, MakeImage

TIMES = int(os.environ.get("VISION_BATCH_FUZZ", "1"))
SETTINGS, ADDRESSES, MANIFESTS, RUNS = 160 * TIMES, 120 * TIMES, 600 * TIMES, 40 * TIMES
SEED = int(os.environ.get("VISION_BATCH_FUZZ_SEED", "11"))
KNOWN_CODES = {0, 1, 2, 3, 4, 5}

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7.5, -0.0, 1e-300, 1e300, 10**12 + 1, 2**53, 2**63, 2**64, 10**30, -(10**30)),
    *("", " ", "0", "-1", "1e400", "nan", "inf", "NaN", "auto", "null", "\0", "\x1b[31m", "\n", "a\tb", "é", "🙂"),
    *("\u202e", "x" * 5000, "../../etc", "/", ".", "~", "http://127.0.0.1:9", "${HOME}", "%s", "{}", "2026-01-01"),
    *([], {}, [1], ["a"], {"a": 1}, {"": ""}, [[[]]], {"a": {"b": {"c": []}}}, ["x"] * 100),
]
BY_TEXT = [
    *("nan", "inf", "-inf", "1" * 5000, "[" * 3000, "{" * 3000, "2026-01-01T00:00:00Z", "'", '"', '"""', "[1,", "1_0"),
    "\ud800",
]
"""What only `--set` can say: no value, but text."""


def keys() -> list[str]:
    """Every setting, dotted."""
    found = []
    for section, info in RunConfig.model_fields.items():
        found.append(section)
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += [f"{section}.{key}" for key in kind.model_fields]
    more = ["request.extra.x", "request.extra.n", "request.extra.ocr_model", "endpoint.headers.X-Y", "a.b", "request."]
    return [*found, *more]


def odd(random: Random) -> Any:
    """A value that makes no sense."""
    value = random.choice(ODD)
    if random.random() < 0.1:
        value = "".join(chr(random.choice((random.randrange(32), random.randrange(127, 0x3000)))) for _ in range(9))
    return value


def table_of(random: Random, kind: type[BaseModel]) -> dict[str, Any]:
    """Some odd values for a list of tables (`[[endpoints]]`, `[[prices.models]]`)."""
    return {name: odd(random) for name in random.sample([*kind.model_fields, "nonsense"], 2)}


def as_toml(key: str, value: Any) -> str | None:
    """A file with this one value; None where TOML cannot say it."""
    if value is None or not key.strip("."):
        return None
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    try:
        return to_toml(nested)
    except (TypeError, ValueError, AttributeError):
        return None


@pytest.fixture
def server(make_image: MakeImage) -> Iterator[Stub]:
    make_image("photos/0.jpg", 64, 48)
    with stub() as answering:
        yield answering


def expect_no_bug(done: tuple[int, str, str], case: object) -> int:
    code, out, err = done
    assert code in KNOWN_CODES, f"{case!r}: exit code {code}\n{bug(err)}"
    assert "Traceback" not in out + err, f"{case!r}: {err}"
    if code == 2:
        assert "vision-batch: " in err or "Usage: " in err, f"{case!r}: {err}"
    return code


def bug(err: str) -> str:
    """The details that are in a file."""
    path = err.rpartition("Details: ")[2].strip()
    return Path(path).read_text(encoding="utf-8") if path and Path(path).is_file() else err


def quick(url: str) -> list[str]:
    """A run that no setting can make long."""
    return ["--base-url", url, "--model", "gpt-4o", "--set", "limits.first_contact_s=0.05", "--max-time", "3s", "-q"]


def command_of(random: Random, number: int, url: str) -> list[str]:
    return random.choice(
        [
            ["run", "photos", "-o", f"out-{number}", *quick(url)],
            ["run", "photos", "-o", f"out-{number}", *quick(url)],
            ["run", "photos", "--dry-run", "--base-url", url, "--model", "gpt-4o"],
            ["check", "--base-url", url, "--model", "gpt-4o"],
            ["estimate", "--count", "10", "--size", "64x48", "--model", "gpt-4o"],
            ["estimate", "photos", "--model", "gpt-4o", "-q", "--json"],
            ["models", "gpt-4o"],
        ]
    )


def test_odd_settings(command: Command, server: Stub) -> None:
    """Every key of the configuration with values of every wrong kind, by `--set` and by file, for all commands."""
    codes: Counter[int] = Counter()
    all_keys = keys()
    for number in range(SETTINGS):
        random = Random(f"{SEED}-{number}")
        key, value = all_keys[number % len(all_keys)], odd(random)
        if key in {"endpoints", "prices.models"} and random.random() < 0.8:
            value = [table_of(random, EndpointConfig if key == "endpoints" else OwnPrice)]
        words = command_of(random, number, server.url)
        toml = as_toml(key, value) if random.random() < 0.4 else None
        if toml is not None:
            Path("case.toml").write_text(toml, encoding="utf-8", errors="surrogatepass")
            words += ["-c", "case.toml"]
        else:
            written = json.dumps(value, ensure_ascii=random.random() < 0.5)
            text = random.choice(BY_TEXT) if random.random() < 0.2 else written
            words += ["--set", f"{key}={text}"]
        codes[expect_no_bug(command(*words), (SEED, number, shlex.join(words)[:300], toml))] += 1
    assert codes.total() == SETTINGS
    assert codes[0] > SETTINGS // 10
    assert codes[2] > SETTINGS // 4


# ---------------------------------------------------------------- addresses

HOSTS = [
    *("127.0.0.1", "localhost", "[::1]", "a..b", "2130706433", "0x7f.1", "127.1", "", "[::1", "]", "-", "%31"),
    *("a" * 300, "é", "\u202e", "127.0.0.1.", "[v1.x]", "[fe80::1%eth0]", "1.2.3", "999.9.9.9", "..", "_", "\x00"),
    *("a b", "@", "xn--a", "ß"),
]
PORTS = ["", ":", ":9", ":99999", ":abc", ":-1", ":0", ":1e3", ":٣", ":9:9", ":" + "1" * 5000]
SCHEMES = [
    "http://",
    "https://",
    "",
    "HTTP://",
    "ftp://",
    "//",
    "http:/",
    "http:",
    "://",
    "file://",
    "data:",
    "socks5://",
]
PATHS = [
    *("", "/", "/v1", "/v1/chat/completions", "?a=b", "#x", "/\n", "/%zz", "/é", "/a b", "//", "/..//", "/[", "\\"),
    *("?" + "x" * 3000, "\ud800"),
]


def address_of(random: Random) -> str:
    user = random.choice(["", "", "", "me@", "me:pw@", "@", ":@"])
    return random.choice(SCHEMES) + user + random.choice(HOSTS) + random.choice(PORTS) + random.choice(PATHS)


def test_odd_addresses(command: Command, server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As endpoint, as proxy, in the environment, and as an image of a manifest; only this machine is ever asked."""
    monkeypatch.setattr("socket.getaddrinfo", only_here)
    codes: Counter[int] = Counter()
    for number in range(ADDRESSES):
        random = Random(f"{SEED}-a{number}")
        address, out = address_of(random), f"out-{number}"
        here = ["run", "photos", "-o", out, *quick(server.url)]
        kind = number % 5
        monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-this-test")
        for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        if kind == 0:
            words = ["run", "photos", "-o", out, *quick(address)]
        elif kind == 1:
            words = [*here, "--set", f"endpoint.proxy={json.dumps(address)}"]
        elif kind == 2:
            Path("m.jsonl").write_text(json.dumps({"image": address}) + "\n")
            monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
            words = ["run", "m.jsonl", "-o", out, *quick(server.url), "--set", "request.max_failures=1"]
        elif kind == 3:
            words = ["check", "--model", "gpt-4o", "--set", "endpoint.connect_timeout_s=0.2"]
            value = address.replace("\0", "").encode("utf-8", "replace").decode()
            Path(".env").write_text(f"OPENAI_BASE_URL='{value}'\n", encoding="utf-8")
        else:
            Path("m.jsonl").write_text('{"image": "http://127.0.0.1:9/x.jpg"}\n')
            monkeypatch.setenv("ALL_PROXY", address.replace("\0", "").encode("utf-8", "replace").decode())
            words = ["run", "m.jsonl", "-o", out, *quick(server.url), "--set", "request.max_failures=1"]
        codes[expect_no_bug(command(*words), (SEED, number, address, kind))] += 1
        Path(".env").unlink(missing_ok=True)
    assert codes.total() == ADDRESSES
    assert codes[2] > ADDRESSES // 4


def only_here(host: str | None, port: int | str | None, *_: object, **__: object) -> list[Any]:
    """A resolver that knows this machine only, at a port where no server listens."""
    import socket  # noqa: PLC0415 - beside what is replaced

    if host in {"localhost", "127.0.0.1", "127.0.0.1."}:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port or 0)))]
    str(host).encode("idna")  # as the real one does first
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# ---------------------------------------------------------------- manifests


def parquet(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


IMAGES = ["photos/0.jpg", "b"]
NUMBERS = pa.array([2**62, 1], pa.int64())
SEEDS: dict[str, list[bytes]] = {
    ".csv": [b'image,id,x\nphotos/0.jpg,1,"a, b"\nphotos/0.jpg,2,c\n', b"image;x\nphotos/0.jpg;1\n"],
    ".tsv": [b"image\tid\nphotos/0.jpg\t1\nphotos/0.jpg\t2\n"],
    ".txt": [b"photos/0.jpg\n# x\nphotos/1.jpg\n"],
    ".jsonl": [
        b'{"image": "photos/0.jpg", "id": 1, "x": {"a": [1, 2.5, null, true]}}\n{"image": "photos/0.jpg", "id": 2}\n',
        b'{"image": "photos/0.jpg", "x": ' + b"[" * 260 + b"]" * 260 + b"}\n",
        b'{"image": "photos/0.jpg", "x": ' + b'{"a":' * 990 + b"1" + b"}" * 990 + b"}\n",
        b'{"image": "photos/0.jpg", "x": 1' + b"0" * 5000 + b"}\n",
    ],
    ".parquet": [
        parquet({"image": IMAGES, "id": [1, 2], "x": [1.5, None]}),
        parquet({"image": IMAGES, "t": NUMBERS.cast(pa.timestamp("ms")), "d": NUMBERS.cast(pa.duration("s"))}),
        parquet({"image": IMAGES, "id": NUMBERS.cast(pa.timestamp("ms"))}),
        parquet({"image": IMAGES, "z": pa.array([0, 1], pa.timestamp("us", "No/Where"))}),
    ],
}
BITS = [
    *(b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\n", b"\r", b"\n\n", b",", b"[" * 300, b"{", b"}", b"NaN"),
    *(b"\\ud800", b"\t", b"image", b"1e999", b"\x1b[2J", b"x" * 2000, "é".encode()),
]


def manifest_of(random: Random) -> tuple[str, bytes]:
    """A manifest with some of its bytes removed, doubled or replaced; now and then packed where it is not."""
    suffix = random.choice([*SEEDS])
    data = bytearray(random.choice(SEEDS[suffix]))
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        start = random.randrange(len(data) + 1)
        stop = start + random.choice((0, 0, 1, 1, 5, len(data)))
        data[start:stop] = random.choice([*BITS, bytes(data[start:stop]) * 2, random.randbytes(3)])
    return suffix + random.choice(("", "", "", "", ".gz")), bytes(data)


def test_odd_manifests(tmp_path: Path) -> None:
    """What the check accepts the run can read, to the last row; what it refuses is named in one line."""
    refused, said = 0, list[str]()
    for number in range(MANIFESTS):
        random = Random(f"{SEED}-m{number}")
        suffix, data = manifest_of(random)
        path = tmp_path / f"m{suffix}"
        path.write_bytes(data)
        config = SourceConfig(skip_bad_rows=random.random() < 0.3)
        try:
            source = open_source(path, config)
            count = source.check()
        except InputError as error:
            refused += 1
            said.append(str(error))
            continue
        except Exception as error:
            raise AssertionError(f"{SEED}-m{number} {suffix} {data[:200]!r}") from error
        records = list(source.records())
        assert count == len(records), (SEED, number)
        for record in records:
            json.loads(record.extra or "{}")
            record.id.encode()
    assert MANIFESTS // 8 < refused < MANIFESTS
    assert not [line for line in said if "\n" in line]


def test_runs_on_odd_manifests(command: Command, server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for whole runs, as files and on standard input."""
    codes: Counter[int] = Counter()
    for number in range(RUNS):
        random = Random(f"{SEED}-r{number}")
        suffix, data = manifest_of(random)
        name = f"m-{number}{suffix}"
        if suffix == ".jsonl" and random.random() < 0.5:
            name = "-"
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        else:
            Path(name).write_bytes(data)
        words = ["run", name, "-o", f"out-{number}", *quick(server.url), "--set", "request.max_failures=1"]
        codes[expect_no_bug(command(*words), (SEED, number, name, data[:200]))] += 1
    assert codes.total() == RUNS


def test_every_key_is_tried() -> None:
    """The list of keys follows the configuration."""
    assert {"images.quality", "endpoint.proxy", "prices.models", "endpoints", "catalogue.file"} <= set(keys())
    assert len(keys()) > 70
    assert get_args(RunConfig.model_fields["endpoints"].annotation)[0] is EndpointConfig
