"""Responses as providers publish them, each a file of `tests/recorded/PRESET/`, through the preset's run to its rows.

A file has its provider, source and date, the response, and what it gives: a row (`status`, `kind`, `caption`, tokens,
cost), a wait after which the record is answered (`waits`), or the end of the run (`exit`, with `words` of its line, and
what the `request` had).
"""

import json
from collections import Counter
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import pipeline
from pipeline import VisionBatchError
from pipeline.config.loading import load_config
from tests.stub import Reply, stub
from tests.support import ROOT, Command, MakeImage

RECORDED = Path(__file__).parents[1] / "recorded"
PRESETS = sorted(folder.name for folder in RECORDED.iterdir() if folder.is_dir())
FIRST = 20
PRICE = {"model": "*", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


@cache
def shapes(preset: str) -> dict[str, dict[str, Any]]:
    """The recorded responses of a preset, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((RECORDED / preset).iterdir())}


def reply_of(shape: dict[str, Any]) -> Reply:
    body = shape["body"]
    return Reply(shape["status"], body.encode() if isinstance(body, str) else body, shape["headers"])


def ask(preset: str, source: Path, url: str, out: str, **more: Any) -> pipeline.RunSummary:
    """A run with the preset, but for its address."""
    overrides = {"request.max_failures": 2, "limits.first_contact_s": 0.5, "prices.models": [PRICE]}
    model = load_config(preset, environ={}).request.model or "m"
    return pipeline.run(
        source, out=out, config=preset, base_url=url, model=model, quiet=True, concurrency=4, overrides=overrides,
        detail="low", max_failed="100%", **more,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for preset in PRESETS:
        monkeypatch.setenv(load_config(preset, environ={}).endpoint.api_key_env, "key-of-this-test")


@pytest.mark.parametrize("preset", PRESETS)
def test_what_gives_a_row(preset: str, make_image: MakeImage) -> None:
    """One run, an image for each response: status, kind, caption, tokens and cost of each row, and no other request."""
    named = [(name, one) for name, one in shapes(preset).items() if "exit" not in one["gives"]]
    for number, _ in enumerate(named):
        make_image(f"photos/{number:02}.png", FIRST + number, 16, seed=number)
    asked: Counter[int] = Counter()

    def decide(width: int) -> int | Reply:
        asked[width] += 1
        shape = named[width - FIRST][1]
        return 200 if "waits" in shape["gives"] and asked[width] > 1 else reply_of(shape)

    with stub(decide) as server:
        summary = ask(preset, Path("photos"), server.base_url, "out")
    rows = sorted(parquet.read_table("out/data").to_pylist(), key=lambda row: str(row["id"]))
    for number, ((name, shape), row) in enumerate(zip(named, rows, strict=True)):
        gives = shape["gives"]
        if "waits" in gives:
            assert (row["status"], asked[FIRST + number]) == ("ok", 2), name
            continue
        assert (row["status"], row["error_kind"], row["caption"]) == (
            gives["status"], gives["kind"], gives["caption"],
        ), (name, row["error_message"])  # fmt: skip
        assert row["attempts"] == asked[FIRST + number] == gives.get("attempts", 1), name
        assert gives.get("words", "") in (row["error_message"] or ""), name
        assert {field: row[field] for field in (*TOKENS, "provider") if field in gives} == {
            field: gives[field] for field in (*TOKENS, "provider") if field in gives
        }, name
        if "cost" in gives:
            assert row["cost_usd"] == Decimal(gives["cost"]), name
        elif gives["status"] == "ok":
            own = row["prompt_tokens"] * Decimal("1e-6") + row["completion_tokens"] * Decimal("2e-6")
            assert row["cost_usd"] == own.quantize(Decimal("1e-9")), name
    assert summary.exit_code == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_what_ends_the_run(preset: str, make_image: MakeImage) -> None:
    """Its exit code, the provider's words and the way out, after the first requests; no row."""
    make_image("photos/0.png", FIRST, 16)
    make_image("photos/1.png", FIRST + 1, 16)
    for name, shape in shapes(preset).items():
        gives = shape["gives"]
        if "exit" not in gives:
            continue
        reply = reply_of(shape)
        with stub(lambda _, reply=reply: reply) as server:  # type: ignore[misc]
            with pytest.raises(VisionBatchError) as caught:
                ask(preset, Path("photos"), server.base_url, f"out-{name}", **gives.get("request", {}))
            assert server.asked.total() <= 2, name
        assert caught.value.exit_code == gives["exit"], name
        assert gives["words"] in str(caught.value), (name, str(caught.value))
        assert parquet.read_table(f"out-{name}/data").num_rows == 0, name


def test_the_recorded_are_data_with_their_source() -> None:
    """At least fifty, over all presets of an endpoint; each says who publishes it, and when it was read."""
    found = {preset: shapes(preset) for preset in PRESETS}
    assert sum(map(len, found.values())) >= 50
    named_in_configs = {path.stem for path in (ROOT / "configs").glob("*.toml")} - {"demo", "labels"}
    chats = {name for name in named_in_configs if load_config(name, environ={}).request.task == "caption"}
    assert set(PRESETS) == chats  # the shapes of the other tasks are in tests/endpoints/test_ocr.py
    for preset, named in found.items():
        for name, shape in named.items():
            assert shape["provider"] == preset, name
            assert shape["source"], name
            assert shape["date"], name


ADDRESSES = {
    "302ai": "https://api.302.ai/v1",
    "aimlapi": "https://api.aimlapi.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "azure": "https://YOUR-RESOURCE.openai.azure.com/openai/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "litellm": "http://127.0.0.1:4000/v1",
    "llamacpp": "http://127.0.0.1:8080/v1",
    "lmstudio": "http://127.0.0.1:1234/v1",
    "ollama": "http://127.0.0.1:11434/v1",
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "sglang": "http://127.0.0.1:30000/v1",
    "vllm": "http://127.0.0.1:8000/v1",
}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_dry_run_shows(preset: str, make_image: MakeImage, command: Command) -> None:
    """The address, the headers with the key's variable in place of the key, and the body without base64."""
    make_image("photos/0.png", 64, 48)
    config = load_config(preset, environ={})
    model = config.request.model or "m"
    code, shown, _ = command("run", "photos", "-c", preset, "--model", model, "--dry-run")
    assert code == 0
    lines = shown.splitlines()
    assert f" to {ADDRESSES[preset]}/chat/completions (nothing is sent now):" in lines[0]
    variable = f"<{config.endpoint.api_key_env}>"
    key = f"api-key: {variable}" if preset == "azure" else f"Authorization: Bearer {variable}"
    assert lines[1 + len(config.endpoint.headers)] == key
    assert "key-of-this-test" not in shown
    body = json.loads(shown[shown.index("\n{") :])
    image = body["messages"][0]["content"][1]["image_url"]["url"]
    assert image.startswith("data:image/png;base64,<")
    assert (body["model"], body["max_tokens"]) == (model, 300)
