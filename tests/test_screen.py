"""Hostile names and words on the screen: every command, with terminal escapes wherever foreign text can stand."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.cli import app
from pipeline.formatting import csv_cell
from tests.stub import Reply, answer, stub

HOSTILE = (
    *("\x1b[2J\x1b[31m", "\x9b31m", "\x1b]8;;evil\x07link\x1b]8;;\x07", "\x07\x08\x7f", "\x85next"),
    *("\u202egpj.exe", "\u2066x\u2069", "\u2028FORGED", "\rFORGED", "\nFORGED: all is well"),
)
FORGED = "FORGED"
TOGETHER = "".join(HOSTILE)
"""Planted in each place: one command shows what becomes of all of them."""


def test_manifests_and_paths(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Columns, ids, file names, folders, OUT and flags: what a command says of them acts on no terminal."""
    text = TOGETHER
    folder = tmp_path / f"in{text}"
    folder.mkdir()
    with (folder / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[f"col{text}", "other"], ["a", "b"]])
    (folder / "d.jsonl").write_text(json.dumps({"image": f"{text}.jpg", "id": text}) + "\n" + json.dumps({"image": 5}))
    twice = {"image": "x.jpg", "id": f"id{text}"}
    (folder / "e.jsonl").write_text(json.dumps(twice) + "\n" + json.dumps(twice))
    (folder / f"broken{text}.jpg").write_bytes(b"no picture")
    Image.new("RGB", (32, 32)).save(folder / f"good{text}.png")
    (tmp_path / "own.toml").write_text(json.dumps(f"x{text}") + " = 1\n")
    with stub() as server:
        to = ["--base-url", server.base_url, "--model", "gpt-4o"]
        commands: list[list[str]] = [
            *(["run", str(folder / name), "-o", "o", *to] for name in ("c.csv", "d.jsonl", "e.jsonl", "x.csv", "*.x")),
            *(["run", str(folder / name), "--dry-run", *to] for name in ("c.csv", f"good{text}.png")),
            ["run", str(folder), "-o", f"out{text}", *to],
            ["run", str(folder), "-o", f"out{text}", *to, "--json"],
            ["run", str(folder), "-o", f"out{text}", *to, "--prompt", f"other{text}"],
            *([command, f"out{text}"] for command in ("status", "compact", "rebuild")),
            *([command, f"none{text}"] for command in ("status", "compact", "rebuild")),
            *([command, f"out{text}", "--json"] for command in ("status", "compact", "rebuild")),
            ["estimate", str(folder), "--model", f"gpt-4o{text}"],
            ["estimate", str(folder), "--model", f"gpt-4o{text}", "--json"],
            ["models", f"gpt{text}"],
            ["models", f"gpt{text}", "--json"],
            *(["check", *to, *more] for more in ([], ["--json"], ["-c", f"name{text}"], ["-c", "own.toml"])),
            *(["check", *to, "--set", words] for words in (f"a{text}=1", f"a.b{text}=1", f"limits.rpm=x{text}")),
            ["run", str(folder), "-o", "o", *to, "--max-time", text],
            ["run", str(folder), "-o", "o", *to, "--prompt-file", f"none{text}"],
        ]  # fmt: skip
        for arguments in commands:
            assert app.exit_code(arguments) in {0, 1, 2, 5}, arguments
            assert_calm(capfd, arguments)
    assert len(commands) * len(HOSTILE) == 320


def said(place: str, text: str) -> Reply:
    replies: dict[str, Callable[[], Reply]] = {
        "model": lambda: Reply(200, {**answer(16), "model": f"m{text}"}),
        "answer": lambda: _answered({"content": f"red{text}"}),
        "refusal": lambda: _answered({"content": None, "refusal": f"no{text}"}),
        "error": lambda: Reply(400, {"error": {"message": f"bad{text}", "code": text}}),
        "key": lambda: Reply(401, {"error": {"message": f"key{text}"}}),
        "page": lambda: Reply(403, f"<p>{text}</p>".encode("utf-8", "surrogatepass")),
    }
    return replies[place]()


def _answered(message: dict[str, Any]) -> Reply:
    return Reply(200, {**answer(16), "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


PLACES = ("model", "answer", "refusal", "error", "key", "page")


def test_words_of_a_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Names of models, answers and errors, in a run, a check, `status` and a list of models."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    text, cases = f"{TOGETHER}a\ud800b", 0
    for number, place in enumerate(PLACES):
        reply = said(place, text)
        with stub(lambda _, reply=reply: reply) as server:  # type: ignore[misc] # bound early
            listed = Reply(200, {"data": [{"id": f"one{text}"}, {"id": f"two{text}"}]})
            server.get = lambda _, listed=listed: listed  # type: ignore[misc] # as above
            to = ["--base-url", server.base_url]
            named = [*to, "--model", "gpt-4o"]
            for arguments in (
                ["run", "a.png", "-o", f"out{number}", *named], ["check", *named], ["check", *named, "--json"],
                ["check", *to], ["status", f"out{number}"],
            ):  # fmt: skip
                assert app.exit_code(arguments) in {0, 1, 2, 4}, (place, ascii(text), arguments)
                assert_calm(capfd, arguments)
                cases += len(HOSTILE) + 1
    assert cases == 5 * len(PLACES) * (len(HOSTILE) + 1) == 330


def test_an_output_directory_that_is_no_utf8(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An OUT that Parquet's libraries cannot name is refused in one line, before anything is sent."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with stub() as server:
        run = ["run", "a.png", "-o", "out\udcff", "--base-url", server.base_url, "--model", "gpt-4o"]
        assert app.exit_code(run) == 2
    assert not server.paths
    assert "must be UTF-8" in capfd.readouterr().err


@pytest.mark.parametrize("suffix", [".md", ".csv", ".html", ".json"])
def test_files_of_an_estimate(suffix: str, tmp_path: Path) -> None:
    """Names in an estimate's files are text there: no link, no formula, no escape."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for start in ("=1+1", "@SUM(A1)", "[x](javascript:y)", "<script>", "\x1b[2J", "|a|"):
        name = f"{start}-gpt"
        assert app.exit_code(["estimate", "a.png", "--model", name, "--output", f"e{suffix}", "-q"]) == 0
        text = (tmp_path / f"e{suffix}").read_text("utf-8")
        assert "\x1b" not in text
        assert not (suffix in {".md", ".html"} and "<script>" in text)
        assert not (suffix == ".md" and ("](javascript" in text.replace("\\]", "") or "|a|" in text))
        if suffix == ".csv":
            (row,) = csv.DictReader(text.splitlines())
            assert row["model"] == csv_cell(name)


def assert_calm(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Nothing acts on the terminal, and no line of the output is one of the foreign text's own."""
    shown = capfd.readouterr()
    for stream in (shown.out, shown.err):
        for line in stream.split("\n"):
            assert line.isprintable(), (arguments, ascii(line))
            assert not line.startswith(FORGED), arguments
    if "--json" in arguments and shown.out.strip():
        json.loads(shown.out)
