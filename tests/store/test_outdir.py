"""The small files of an output directory: whole, without secrets, and no markup from untrusted text."""

import json
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_config import RunConfig
from pipeline.store import outdir

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_toml_is_read_back_as_it_was(values: dict[str, Any]) -> None:
    """Proves that whatever a configuration can hold, names and control characters included, survives TOML."""
    assert tomllib.loads(outdir.to_toml(values)) == values


def test_toml_leaves_out_what_is_none() -> None:
    """Proves that None, for which TOML has no word, is absent at every depth."""
    values = {"a": None, "b": {"c": None, "d": 1}, "e": [None, 2, {"f": None}]}
    assert tomllib.loads(outdir.to_toml(values)) == {"b": {"d": 1}, "e": [2, {}]}


def test_the_written_configuration_is_one(tmp_path: Path) -> None:
    """Proves that config.toml loads as the configuration that it was made from."""
    config = RunConfig.model_validate({"request": {"model": "gpt-4o", "prompt": 'Say "it"\n\x7f', "extra": {"n": 2}}})
    outdir.write_config(tmp_path, config.model_dump(mode="json"))
    assert RunConfig.model_validate(tomllib.loads((tmp_path / "config.toml").read_text("utf-8"))) == config


def test_no_secret_is_written(tmp_path: Path) -> None:
    """Proves that keys in headers, addresses and further fields stay out, and what is harmless stays in."""
    config = RunConfig.model_validate(
        {
            "endpoint": {
                "base_url": "https://host/v1?api-version=2026-01-01&sig=hunter2&key=hunter2",
                "proxy": "http://u:hunter2@proxy:3128",
                "headers": {"X-Api-Key": "hunter2", "X-Whatever": "hunter2", "HTTP-Referer": "https://me"},
            },
            "request": {
                "max_tokens": 5,
                "extra": {"apiKey": "hunter2", "x": {"access_token": "hunter2", "max_completion_tokens": 7}},
            },
        }
    )
    outdir.write_config(tmp_path, config.model_dump(mode="json"))
    text = (tmp_path / "config.toml").read_text("utf-8")
    assert "hunter2" not in text
    written = tomllib.loads(text)
    assert written["endpoint"]["base_url"] == "https://host/v1?api-version=2026-01-01"
    assert written["endpoint"]["proxy"] == "http://proxy:3128"
    assert written["endpoint"]["api_key_env"] == "OPENAI_API_KEY"
    assert written["endpoint"]["headers"] == {"HTTP-Referer": "https://me"}
    assert written["request"]["max_tokens"] == 5
    assert written["request"]["extra"] == {"x": {"max_completion_tokens": 7}}


HOSTILE = "---\nconfigs: []\n---\n# x\n```\n<script>`|\u2028[a](javascript:b) ````` end"


def test_the_card_points_at_the_data_whatever_the_prompt_says(tmp_path: Path) -> None:
    """Proves that hostile prompts and names reach neither the front matter nor the markup of the card."""
    columns = ["id", "cost_usd"]
    asked = {"model": HOSTILE, "prompt_name": HOSTILE, "prompt": HOSTILE, "detail": HOSTILE}
    outdir.write_card(tmp_path, [outdir.Configuration(HOSTILE, 3, asked)], columns=columns)
    card = (tmp_path / "README.md").read_text("utf-8")
    _, front, body = card.split("---\n", 2)
    assert front == (
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet\n"
        "tags:\n- vision-batch\n"
    )
    fence = "`" * 6
    before, quoted, after = body.split(f"{fence}text\n")[0], *body.split(f"{fence}text\n")[1].split(f"\n{fence}\n")
    assert quoted.startswith("---\nconfigs: []\n---\n# x\n```\n<script>")
    assert "<script>`" not in before
    assert "<script>" not in after
    for line in before.splitlines():
        assert line.count("`") % 2 == 0
    assert "| `cost_usd` | `decimal128(18, 9)` |" in after


def asked(prompt: str) -> list[outdir.Configuration]:
    """One configuration that asks this."""
    return [outdir.Configuration("h", 1, {"model": "m", "prompt_name": "caption", "prompt": prompt, "detail": "auto"})]


def test_an_edited_card_is_left_alone(tmp_path: Path) -> None:
    """Proves that our own card is replaced by the next run, and an edited one never."""
    path = tmp_path / "README.md"
    outdir.write_card(tmp_path, asked("first"), columns=[])
    outdir.write_card(tmp_path, asked("second"), columns=[])
    ours = path.read_text("utf-8")
    assert "second" in ours
    assert "first" not in ours
    edited = ours.replace("# Answers", "# My answers")
    path.write_text(edited, "utf-8")
    outdir.write_card(tmp_path, asked("third"), columns=[])
    assert path.read_text("utf-8") == edited
    path.write_text("", "utf-8")
    assert not outdir.is_ours(path.read_text("utf-8"))


def test_status_and_runs_are_replaced_whole(tmp_path: Path) -> None:
    """Proves what these files hold, money as text and times in ISO 8601, and that nothing else is left."""
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    outdir.write_status(tmp_path, {"done": 1})
    outdir.write_status(tmp_path, {"done": 2, "cost_usd": Decimal("0.000000001"), "at": at})
    outdir.write_run(tmp_path, "20260102-030405", {"exit_code": 0})
    assert json.loads((tmp_path / "status.json").read_text("utf-8")) == {
        "done": 2,
        "cost_usd": "0.000000001",
        "at": "2026-01-02T03:04:05+00:00",
    }
    run = tmp_path / "runs" / "20260102-030405.json"
    assert json.loads(run.read_text("utf-8")) == {"exit_code": 0, "earlier": []}
    outdir.write_run(tmp_path, "20260102-030405", {"exit_code": 3})
    assert [one["exit_code"] for one in json.loads(run.read_text("utf-8"))["earlier"]] == [0]  # of a run that resumed
    for damaged in (b"{", b"[]", b'{"earlier": 7}'):
        run.write_bytes(damaged)
        outdir.write_run(tmp_path, "20260102-030405", {"exit_code": 0})
        assert json.loads(run.read_text("utf-8"))["exit_code"] == 0
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["20260102-030405.json", "runs", "status.json"]


def test_only_our_unfinished_files_are_removed(tmp_path: Path) -> None:
    """Proves that repair deletes what a crash left half written, and no other hidden files."""
    (tmp_path / "runs").mkdir()
    ours = [".README.md.tmp", ".config.toml.tmp", ".status.json.tmp", "runs/.x.json.tmp"]
    for name in (*ours, ".mine.tmp", "runs/x.json"):
        (tmp_path / name).write_text("x")
    outdir.remove_unfinished(tmp_path)
    assert sorted(file.name for file in tmp_path.rglob("*")) == [".mine.tmp", "runs", "x.json"]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ["b: 2 -> 3"]),
        ({"a": None}, {"a": "x", "c": True}, ['a: null -> "x"', "c: null -> true"]),
        ({"a": 1}, {"a": 1}, []),
        (
            {"prompt": "same " * 20 + "old"},
            {"prompt": "same " * 20 + "new"},
            ['prompt: …same same same same old" -> …same same same same new"'],
        ),
        ({"p": "x" * 70}, {"p": "y"}, [f'p: "{"x" * 59}… -> "y"']),
    ],
)
def test_differences_are_shown_where_they_are(
    before: dict[str, object], now: dict[str, object], expected: list[str]
) -> None:
    """Proves that only differing fields are named, and that long texts are cut to where they differ."""
    assert outdir.differences(before, now) == expected
