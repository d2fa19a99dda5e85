"""What programs read of a run: its summary by the documented schema, metrics, `--on-exit`, lists, and exit codes."""

import csv
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jsonschema
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

import pipeline
from pipeline import BudgetReachedError, EndpointStoppedError, InputError
from pipeline.commands.report import tables
from pipeline.config import extras
from pipeline.display import metrics
from tests.builders import ask
from tests.emulators import emulator
from tests.support import ROOT, Command, MakeImage

SCHEMA = json.loads((ROOT / "docs" / "summary.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(4):
        make_image(f"photos/{number}.jpg", 64, 48, seed=number)
    Path("photos/broken.jpg").write_bytes(b"=cmd()")
    return Path("photos")


def test_the_schema_is_that_of_the_code() -> None:
    """docs/summary.schema.json and docs/summary.md are as docs/write_summary.py writes them; each field has words."""
    script = runpy.run_path(str(ROOT / "docs" / "write_summary.py"))
    assert script["schema"]() == SCHEMA, "run: python docs/write_summary.py"
    assert script["page"]() == (ROOT / "docs" / "summary.md").read_text(encoding="utf-8")
    assert all(one["description"].endswith(".") for one in SCHEMA["properties"].values())


def test_real_summaries_fit_the_schema(photos: Path, endpoint: str, command: Command) -> None:
    """Of runs that went well, failed in part, were resumed, asked two prompts, and were stopped by budget or endpoint:
    `--json` and `runs/*.json` are valid, and have no field that the schema lacks.
    """
    prompts = [{"name": "short", "text": "A title."}, {"name": "long", "text": "A caption."}]
    for out, more in (("out", {}), ("out", {"retry_failed": True}), ("two", {"overrides": {"prompts": prompts}})):
        ask(photos, endpoint, out=out, **more)
    with pytest.raises(BudgetReachedError):
        ask(photos, endpoint, out="poor", overrides={"budget.max_requests": 1})
    resumed = ask(photos, endpoint, out="poor")
    with emulator(["--fault", "bad_key=1"]) as url, pytest.raises(EndpointStoppedError):
        ask(photos, url, out="refused")
    code, printed, _ = command("run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o", "--json")
    summaries = [json.loads(path.read_text()) for path in sorted(Path().glob("*/runs/*.json"))]
    assert (code, len(summaries)) == (0, 6)
    (earlier,) = json.loads(Path(f"poor/runs/{resumed.run_id}.json").read_text())["earlier"]
    assert (earlier["exit_code"], earlier["requests"], "max_requests" in earlier["stopped"]) == (3, 1, True)
    stopped, last = reversed(tables.runs(Path("poor")))  # of the report: both commands of the one run
    assert ("1 ok" in stopped.what, "max_requests" in stopped.stopped) == (True, True)
    assert (f"{resumed.by_status['ok']} ok" in last.what, last.stopped) == (True, "")
    rows, seconds = earlier["asked"] + resumed.asked, earlier["seconds"] + resumed.seconds
    assert list(tables.at_work(Path("poor"), rows) or ()) == pytest.approx([seconds, rows / seconds], rel=0.2)
    assert tables.at_work(Path("poor"), rows + 1) is None  # a command was killed
    for one in (*summaries, json.loads(printed)):
        jsonschema.validate(one, {**SCHEMA, "additionalProperties": False}, jsonschema.Draft202012Validator)


def test_failures_are_listed(photos: Path, endpoint: str, command: Command) -> None:
    """OUT/failures.csv and `status --failures` list every row that is not ok, harmless in a spreadsheet; once all are
    ok there is no list.
    """
    words = ["photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o"]
    code, shown, said = command("run", *words, "-q")
    assert (code, shown) == (1, "")
    assert said == (
        "vision-batch: 1 image of 5 asked has no answer (image_unsupported 1); out/failures.csv lists them\n"
    )
    text = Path("out/failures.csv").read_text(encoding="utf-8")
    (row,) = csv.DictReader(text.splitlines())
    assert (row["id"], row["status"], row["error_kind"]) == ("broken.jpg", "failed", "image_unsupported")
    assert command("status", "out", "--failures")[1] == text
    (same,) = json.loads(command("status", "out", "--failures", "--json")[1])
    assert {name: value or "" for name, value in same.items() if name != "attempts"}.items() <= row.items()
    _, shown, _ = command("run", *words, "--retry-failed")
    assert "  1 image_unsupported: broken.jpg: " in shown
    assert "not ok: out/failures.csv lists all of them\n" in shown
    (photos / "broken.jpg").write_bytes((photos / "0.jpg").read_bytes())
    assert command("run", *words, "--retry-failed")[0] == 0
    assert not Path("out/failures.csv").exists()


def test_fail_on_any_counts_all_of_out(photos: Path, endpoint: str, command: Command) -> None:
    """A night that asks nothing is exit code 0, and 1 with --fail-on-any, as `status --check` says; `-q` says why."""
    words = ["run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o", "-q"]
    assert command(*words)[0] == 1
    assert command(*words) == (0, "", "")
    assert command("status", "out", "--check")[0] == 1
    said = "vision-batch: 1 row of earlier runs has no answer; out/failures.csv lists them\n"
    assert command(*words, "--fail-on-any") == (1, "", said)
    assert ask(photos, endpoint, fail_on_any=True).exit_code == 1
    (photos / "broken.jpg").write_bytes((photos / "0.jpg").read_bytes())
    assert command(*words, "--fail-on-any", "--retry-failed")[0] == command("status", "out", "--check")[0] == 0


def test_on_exit(photos: Path, endpoint: str, command: Command) -> None:
    """It learns OUT, the exit code and counts after every end; what it prints is no part of standard output; its own
    failure is said, and one that hangs is ended, and neither changes the exit code.
    """
    words = ["run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o"]
    told = 'echo noise; env | grep ^VISION_BATCH_ | sort >"told-$VISION_BATCH_EXIT_CODE"; exit 7'
    code, shown, said = command(*words, "--json", "--on-exit", told)
    assert (code, json.loads(shown)["exit_code"]) == (1, 1)
    assert "vision-batch: --on-exit: its exit code is 7; that of the run stays 1\n" in said
    variables = dict(line.split("=", 1) for line in Path("told-1").read_text().splitlines())
    summary = json.loads(Path(variables["VISION_BATCH_SUMMARY"]).read_text())
    assert (summary["run_id"], summary["asked"]) == (variables["VISION_BATCH_RUN_ID"], 5)
    names = ("OUT", "ASKED", "OK", "FAILED", "STOPPED", "EXIT_CODE")
    found = [variables[f"VISION_BATCH_{name}"] for name in names]
    assert found == [str(Path("out").absolute()), "5", "4", "1", "", "1"]
    assert command("run", "none", "-o", "new", "--model", "gpt-4o", "-q", "--on-exit", told)[0] == 2
    assert command(*words, "-q", "--max-time", "1d", "--set", "budget.max_requests=0", "--on-exit", told)[0] == 2
    assert Path("told-2").read_text().splitlines() == [
        "VISION_BATCH_EXIT_CODE=2", f"VISION_BATCH_OUT={Path('out').absolute()}",
    ]  # fmt: skip
    with patch("pipeline.cli.on_exit.LONGEST_S", 0.2):
        code, _, said = command(*words, "-q", "--on-exit", "sleep 60")
    assert (code, "vision-batch: --on-exit: ended after 0.2 s" in said) == (0, True)


def test_metrics(photos: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """The file is Prometheus's format with OpenTelemetry's names, is there from the first moment, is replaced while the
    run goes on, ends with the exit code, and holds no secret; without the package one line says so.
    """
    monkeypatch.setattr(metrics, "EVERY_S", 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret-key-value")
    looks: list[dict[str, float]] = []
    summary = ask(photos, endpoint, metrics="m.prom", on_progress=lambda _: looks.append(figures()))
    last = figures()
    assert looks[0]["vision_batch_running"] == 1
    assert (last["vision_batch_running"], last["vision_batch_exit_code"]) == (0, summary.exit_code == 1)
    assert last["gen_ai_client_token_usage_sum gpt-4o input"] == summary.prompt_tokens
    assert last["gen_ai_client_token_usage_count gpt-4o output"] == 4
    assert last["gen_ai_client_operation_duration_seconds_sum gpt-4o"] > 0
    assert (last["vision_batch_rows_total ok"], last["vision_batch_errors_total image_unsupported"]) == (4, 1)
    assert last["vision_batch_cost_usd_total"] == pytest.approx(float(summary.cost_usd or 0))
    assert "s3cret" not in Path("m.prom").read_text()
    words = ["run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o", "-q", "--metrics"]
    assert command(*words, "none/m.prom")[0::2] == (
        5,
        "vision-batch: none/m.prom: No such file or directory (output.metrics)\n",
    )
    monkeypatch.setattr(metrics, "has_metrics_extra", lambda: False)
    assert command(*words, "m.prom")[0::2] == (2, f"vision-batch: --metrics: {extras.METRICS_HINT}\n")
    with pytest.raises(InputError):
        ask(photos, endpoint, metrics="m.prom")


def figures() -> dict[str, float]:
    """Every figure of the file by its name and the values of its labels, but for `out`."""
    families = text_string_to_metric_families(Path("m.prom").read_text())
    return {
        " ".join([one.name, *(value for name, value in sorted(one.labels.items()) if name != "out")]): one.value
        for family in families
        for one in family.samples
    }


def test_ids_stay_what_they_are(photos: Path, endpoint: str) -> None:
    """An integer id of a manifest is an integer in `record`, however large, and joins with the manifest; so are columns
    of integers that some rows lack.
    """
    large = 2**63 + 11
    rows: list[dict[str, Any]] = [
        {"image": "photos/0.jpg", "id": 42, "shop": 7, "big": large},
        {"image": "photos/1.jpg", "id": 7},
    ]
    Path("many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask("many.jsonl", endpoint)
    read = pipeline.read("out").set_index("id")
    for suffix in ("jsonl", "parquet"):
        pd.DataFrame(rows)[["image", "id"]].to_parquet("many.parquet")
        ask(f"many.{suffix}", endpoint, out=suffix)
        stored = pd.read_parquet(f"{suffix}/data").sort_values("id")["record"]
        assert [json.loads(text)["id"] for text in stored] == [42, 7]
    assert read.loc["42", "big"] == large
    catalogue = pd.DataFrame({"id": [7, 42], "price": [1.5, 2.5]})
    joined = pipeline.read("out").merge(catalogue, left_on="record.id", right_on="id")
    assert sorted(joined["price"]) == [1.5, 2.5]
    assert str(read["shop"].dtype) == "Int64"
    assert read["shop"].dropna().tolist() == [7]


def test_the_nightly_job(photos: Path, endpoint: str) -> None:
    """The scripts of docs/nightly.md run as they stand there: the first night says what failed, and the second asks
    what is new.
    """
    page = (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8")
    for script in re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        path = Path(re.findall(r"^# (\w+\.sh):", script, re.MULTILINE)[0])
        path.write_text(script)
        path.chmod(0o755)
    bin_ = Path("bin")
    bin_.mkdir()
    (bin_ / "vision-batch").write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline "$@"\n')
    (bin_ / "vision-batch").chmod(0o755)
    environ = {
        **os.environ, "PATH": f"{bin_.absolute()}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "LIBRARY": ".",
        "OPENAI_BASE_URL": endpoint, "OPENAI_API_KEY": "k",
    }  # fmt: skip
    prices = '[[prices.models]]\nmodel = "gpt-4o"\ninput_usd_per_mtok = 2.5\noutput_usd_per_mtok = 10\n'
    Path("label.sh").write_text(Path("label.sh").read_text().replace("run photos", "run photos -c ./prices.toml"))
    Path("prices.toml").write_text(prices)
    codes = [subprocess.run(["./label.sh"], env=environ, check=False, capture_output=True).returncode for _ in range(2)]
    assert codes == [1, 0]
    assert Path("told.txt").read_text() == "exit 1, 1 failed\n"
    assert "vision_batch_exit_code" in Path("captions.prom").read_text()
