"""From a folder or a manifest to Parquet, against the emulator over loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import EndpointStoppedError, InputError
from tests.builders import ask
from tests.emulators import emulator
from tests.support import MakeImage, emulator_get

COLUMNS = {
    "id": "string", "prompt_name": "string", "image": "string", "status": "string", "caption": "string",
    "flags": "list<element: string>", "model": "string", "endpoint": "string", "provider": "string",
    "finish_reason": "string", "request_id": "string", "prompt_tokens": "int64", "cached_tokens": "int64",
    "completion_tokens": "int64", "reasoning_tokens": "int64", "total_tokens": "int64",
    "predicted_prompt_tokens": "int64", "token_rule": "string", "cost_usd": "decimal128(18, 9)", "attempts": "int32",
    "latency_s": "double", "width": "int32", "height": "int32", "sent_width": "int32", "sent_height": "int32",
    "sent_bytes": "int32", "sha256": "string", "request_sha256": "string", "duplicate_of": "string",
    "error_kind": "string", "error_message": "string", "run_id": "string", "config_hash": "string",
    "asked_at": "timestamp[us, tz=UTC]", "answered_at": "timestamp[us, tz=UTC]", "record": "string",
}  # fmt: skip


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    make_image("photos/a.jpg", 640, 480, seed=1)
    make_image("photos/b/c.png", 200, 300, seed=2)
    make_image("photos/d.webp", 1500, 1100, seed=3, lossless=True)
    return Path("photos").resolve()


def test_a_folder_becomes_rows(photos: Path, endpoint: str) -> None:
    """Every image is a row with caption, tokens, cost and sizes, in exactly the columns of the contract."""
    summary = ask(photos, endpoint)
    assert (summary.exit_code, summary.asked, summary.requests) == (0, 3, 3)
    schema = pq.read_schema(next(Path("out/data").glob("*.parquet")))
    assert {field.name: str(field.type) for field in schema} == COLUMNS
    frame = pd.read_parquet("out/data").set_index("id")
    assert sorted(frame.index) == ["a.jpg", "b/c.png", "d.webp"]
    assert set(frame.status) == {"ok"}
    sizes = frame[["width", "height", "sent_width", "sent_height"]].to_dict("index")
    assert list(sizes["d.webp"].values()) == [1500, 1100, 1047, 768]
    assert (frame.prompt_tokens == frame.predicted_prompt_tokens).all()
    assert "1047 x 768" in str(frame.loc["d.webp", "caption"])
    stats = emulator_get(endpoint, "stats")
    assert frame.prompt_tokens.sum() == stats["prompt_tokens"] == summary.prompt_tokens
    assert frame.cost_usd.isna().all()  # a server on this machine has no price
    assert summary.cost_usd is None


def test_the_same_line_again_asks_only_for_what_is_missing(photos: Path, make_image: MakeImage, endpoint: str) -> None:
    """A second run sends nothing; three images more are three requests more; one row a key."""
    ask(photos, endpoint)
    again = ask(photos, endpoint)
    assert (again.exit_code, again.asked, again.skipped, again.requests) == (0, 0, 3, 0)
    for number in range(3):
        make_image(f"photos/new{number}.jpg", seed=10 + number)
    more = ask(photos, endpoint)
    assert (more.asked, more.skipped, more.requests) == (3, 3, 3)
    assert emulator_get(endpoint, "stats")["requests"] == 6
    assert pd.read_parquet("out/data").id.is_unique
    assert len(pd.read_parquet("out/data")) == 6


def test_a_broken_image_among_good_ones(photos: Path, endpoint: str) -> None:
    """It is a row that says why, the others are answered, and the exit code is 1 unless that is allowed."""
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:2000])
    summary = ask(photos, endpoint)
    assert (summary.exit_code, summary.by_status) == (1, {"ok": 3, "failed": 1})
    row = pd.read_parquet("out/data").set_index("id").loc["broken.jpg"]
    assert (row.status, row.error_kind, row.attempts) == ("failed", "image_truncated", 0)
    assert emulator_get(endpoint, "stats")["requests"] == 3
    assert ask(photos, endpoint, out="out2", max_failed=1).exit_code == 0
    assert ask(photos, endpoint, out="out3", max_failed="30%").exit_code == 0


def test_a_manifest_keeps_its_columns(photos: Path, endpoint: str) -> None:
    """Ids and further columns of a CSV come out again; `pipeline.read` gives them as columns, money as float."""
    manifest = photos / "list.csv"
    manifest.write_text("id,image,title,status\n7,a.jpg,Älter,x\n8,b/c.png,,y\n", encoding="utf-8")
    ask(manifest, endpoint)
    rows = pd.read_parquet("out/data").set_index("id")
    assert json.loads(str(rows.loc["7", "record"])) == {"title": "Älter", "status": "x"}
    frame = pipeline.read("out").set_index("id")
    assert frame.loc["7", "title"] == "Älter"
    assert frame.loc["8", "record.status"] == "y"
    assert frame.cost_usd.dtype == "float64"


def test_the_request_has_the_documented_shape(photos: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives is what the providers' own examples send."""
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    ask(photos / "a.jpg", endpoint, api_key_env="MY_KEY", prompt="What’s in this image?", detail="high")
    sent = emulator_get(endpoint, "requests?last=1")[0]
    body = sent["body"]
    assert body["model"] == "gpt-4o"
    assert body["max_tokens"] == 300
    (message,) = body["messages"]
    assert message["role"] == "user"
    text, image = message["content"]
    assert text == {"type": "text", "text": "What’s in this image?"}
    assert image["type"] == "image_url"
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert image["image_url"]["detail"] == "high"
    headers = {name.lower(): value for name, value in sent["headers"].items()}
    assert headers["authorization"] == "Bearer ***"
    assert headers["content-type"] == "application/json"
    for file in Path("out").rglob("*"):
        assert file.is_dir() or b"sk-very-secret" not in file.read_bytes()


def test_a_reasoning_model_gets_its_own_parameter(photos: Path, endpoint: str) -> None:
    """gpt-5 refuses `max_tokens`: it is sent `max_completion_tokens`."""
    assert ask(photos / "a.jpg", endpoint, model="gpt-5", max_tokens=77).exit_code == 0
    body = emulator_get(endpoint, "requests?last=1")[0]["body"]
    assert body["max_completion_tokens"] == 77 + 512  # and the allowance for reasoning
    assert "max_tokens" not in body


def test_the_emulator_as_endpoint(photos: Path) -> None:
    """`emulator=True` needs no key and no model, tells what it would cost, and rows do not name a port."""
    summary = pipeline.run(photos, out="out", emulator=True, quiet=True)
    assert summary.exit_code == 0
    assert summary.cost_usd is not None
    frame = pd.read_parquet("out/data")
    assert set(frame.endpoint) == {"emulator"}
    assert frame.cost_usd.sum() == summary.cost_usd


def test_rate_limits_are_waited_out(photos: Path) -> None:
    """An endpoint that grants 600 a minute, one at a time: all are answered, none has failed."""
    with emulator(["--rpm", "600", "--burst", "1"]) as url:
        summary = ask(photos, url)
        assert summary.by_status == {"ok": 3}
        assert emulator_get(url, "stats")["answered"] == 3


def test_faults_are_retried(photos: Path) -> None:
    """Half of the answers are 500s or no JSON; every record is answered in the end."""
    with emulator(["--fault", "500=0.25", "--fault", "broken_json=0.25", "--seed", "4"]) as url:
        summary = ask(photos, url, overrides={"request.max_failures": 20})
        stats = emulator_get(url, "stats")
        assert summary.by_status == {"ok": 3}
        assert summary.requests == stats["requests"]
        assert summary.requests == pd.read_parquet("out/data").attempts.sum()


def test_nobody_listens(photos: Path) -> None:
    """A port without a server stops the run with the address in one line, and OUT can be used again."""
    with pytest.raises(EndpointStoppedError, match=r"127\.0\.0\.1:9") as caught:
        ask(photos, "http://127.0.0.1:9", overrides={"limits.first_contact_s": 0.2})
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.summary, pipeline.RunSummary)
    assert caught.value.summary.asked == 0


def test_another_prompt_needs_another_out(photos: Path, endpoint: str) -> None:
    """Answers to different prompts are not mixed in one directory; the message shows the difference."""
    ask(photos, endpoint, prompt="What is this?")
    with pytest.raises(InputError, match="What is that"):
        ask(photos, endpoint, prompt="What is that?")
    assert emulator_get(endpoint, "stats")["requests"] == 3


def test_a_server_with_one_model_is_not_asked_which(photos: Path) -> None:
    """Where `/v1/models` names just one, that is the model."""
    with emulator(["--models", "llava-7b"]) as url:
        assert ask(photos, url, model=None).model == "llava-7b"
    with emulator(["--models", "a,b"]) as url, pytest.raises(InputError, match="a, b"):
        ask(photos, url, model=None, out="out2")


def test_runs_inside_a_running_loop(photos: Path, endpoint: str) -> None:
    """A notebook has a loop of its own; the blocking call works there too."""
    import asyncio  # noqa: PLC0415 - only here

    async def cell() -> pipeline.RunSummary:
        return ask(photos, endpoint)

    assert asyncio.run(cell()).asked == 3


def test_every_run_leaves_a_summary(photos: Path, endpoint: str) -> None:
    """`runs/` has one file a run, `status.json` the last state, `config.toml` what was resolved."""
    first, second = ask(photos, endpoint), ask(photos, endpoint)
    for summary in (first, second):
        stored = json.loads(Path("out/runs", f"{summary.run_id}.json").read_text())
        assert (stored["asked"], stored["exit_code"]) == (summary.asked, 0)
    assert json.loads(Path("out/status.json").read_text())["run_id"] == second.run_id
    assert 'model = "gpt-4o"' in Path("out/config.toml").read_text()


def test_a_run_does_not_import_pandas(photos: Path, endpoint: str) -> None:
    """A tenth of a second and 40 MB, which only readers need."""
    code = (
        "import pipeline, sys; pipeline.run('photos', out='out', model='m', base_url=sys.argv[1], quiet=True);"
        "sys.exit('pandas' in sys.modules)"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, endpoint], env=environ, check=True, timeout=60)


def test_reading_what_has_no_rows_yet(photos: Path) -> None:
    """Where the endpoint answered nothing there are no rows, with the columns that there would be."""
    with pytest.raises(pipeline.EndpointStoppedError):
        ask(photos, "http://127.0.0.1:9/v1", overrides={"limits.first_contact_s": 0.01})
    frame = pipeline.read("out")
    assert len(frame) == 0
    assert list(frame.columns) == [name for name in COLUMNS if name != "record"]
    assert frame.cost_usd.dtype == "float64"
