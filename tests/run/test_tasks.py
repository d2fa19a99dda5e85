"""OCR and OFR as runs: folders and PDFs, resumes, duplicates, faults, limits, budgets, and what a page costs."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import pipeline
from pipeline import BudgetReachedError, EndpointStoppedError, InputError
from tests.builders import ask
from tests.emulators import emulator
from tests.pdfs import pdf
from tests.support import Command, MakeImage, emulator_get

OCR: dict[str, Any] = {"task": "ocr", "model": "mistral-ocr-latest"}
OFR: dict[str, Any] = {"task": "ofr", "model": None}
PRICED = """
[request]
task = "ocr"
model = "mistral-ocr-latest"
[[prices.models]]
model = "mistral-ocr-*"
usd_per_page = "0.002"
"""
TOKENS = ["prompt_tokens", "completion_tokens", "total_tokens", "predicted_prompt_tokens", "token_rule"]


@pytest.fixture
def scans(make_image: MakeImage) -> Path:
    """Five images: two alike, and a blank one."""
    for number in range(3):
        make_image(f"scans/{number}.jpg", 64, 48, seed=number)
    Path("scans/again.jpg").write_bytes(Path("scans/0.jpg").read_bytes())
    Image.fromarray(np.full((48, 64, 3), 255, np.uint8)).save("scans/blank.png")
    return Path("scans").resolve()


def rows_of(out: str = "out") -> pd.DataFrame:
    return pd.read_parquet(f"{out}/data").set_index("id").sort_index()


def test_ocr_of_a_folder(scans: Path) -> None:
    """Markdown by page with boxes, no tokens, the provider's cost; a blank page is no failure; all of it once."""
    with emulator(["--usd-per-page", "0.001", "--fault", "500=0.2", "--fault", "429=0.2", "--seed", "3"]) as url:
        summary = ask(scans, url, **OCR)
        stats = emulator_get(url, "stats")
        assert (summary.exit_code, summary.pages, summary.cost_usd) == (0, 4, Decimal("0.004"))
        assert (stats["pages"], stats["prompt_tokens"], stats["tokens_admitted"]) == (4, 0, 0)
        assert ask(scans, url, **OCR).requests == 0
        with pytest.raises(InputError, match="belongs to another configuration"):
            ask(scans, url)
        with pytest.raises(InputError, match="made for another task"):
            ask(scans, url, task="ofr", on_config_change="keep")
    rows = rows_of()
    assert set(rows.status) == {"ok"}
    assert rows.loc["blank.png"].caption == ""
    assert rows.loc["blank.png"].pages[0]["markdown"] == ""
    assert rows.caption.nunique() == 4
    assert rows.duplicate_of.notna().sum() == 1
    assert rows[TOKENS][rows.attempts > 0].isna().all(axis=None)
    (first,) = rows.loc["1.jpg"].pages
    assert (first["index"], first["width"], first["height"]) == (0, 64, 48)
    assert first["markdown"] == rows.loc["1.jpg"].caption
    assert first["boxes"][0]["box"] == {"x0": 0.25, "y0": 0.25, "x1": 0.75, "y1": 0.75}
    assert list(rows.loc["again.jpg"].pages) == list(rows.loc["0.jpg"].pages)
    assert "features" not in rows
    assert pipeline.status("out").pages == 4
    assert "Task: `ocr`, model: `mistral-ocr-latest`" in Path("out/README.md").read_text()


def test_ofr_of_a_folder(scans: Path, endpoint: str) -> None:
    """Names joined in `caption`, with scores and boxes in `features`; a model need not be named."""
    wanted = {
        "request.ofr.features": ["LABEL_DETECTION", "OBJECT_LOCALIZATION", "TEXT_DETECTION", "SAFE_SEARCH_DETECTION"]
    }
    summary = ask(scans, endpoint, **OFR, overrides=wanted)
    rows = rows_of()
    assert (summary.exit_code, summary.pages, summary.cost_usd) == (0, 4, None)
    assert set(rows.status) == {"ok"}
    found = {feature["name"]: feature for feature in rows.loc["1.jpg"].features}
    assert rows.loc["1.jpg"].caption == ", ".join(found)
    assert found["Picture"]["box"] == {"x0": 0.25, "y0": 0.25, "x1": 0.75, "y1": 0.75}
    assert found["adult: VERY_UNLIKELY"]["score"] == 0
    assert [feature["box"] for feature in rows.loc["1.jpg"].features if feature["name"].startswith("A land")] == [
        None,
        {"x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0},
    ]
    assert "pages" not in rows
    assert ask(scans, endpoint, **OFR, overrides=wanted).requests == 0


@pytest.mark.parametrize("model", ["mistral/mistral-ocr-4-0", "google/gc-document-ai"])
def test_a_pdf_as_a_whole_and_page_by_page(model: str, endpoint: str) -> None:
    """Six pages are one row of six, or six rows; each page has its own Markdown, and is billed."""
    Path("docs").mkdir()
    Path("docs/six.pdf").write_bytes(pdf(6))
    Path("priced.toml").write_text(PRICED.replace("mistral-ocr-*", "*"))
    settings: dict[str, Any] = {"config": "priced.toml", "model": model, "max_cost": "0.012"}
    whole = ask("docs", endpoint, **settings)
    row = rows_of().loc["six.pdf"]
    assert (whole.exit_code, whole.requests, whole.pages, row.cost_usd) == (0, 1, 6, Decimal("0.012"))
    assert [page["index"] for page in row.pages] == list(range(6))
    assert len({page["markdown"].partition("\n")[0] for page in row.pages}) == 6
    assert row.caption == "\n\n".join(page["markdown"] for page in row.pages)
    each = ask("docs", endpoint, out="pages", **settings, overrides={"source.pdf": "pages"})
    rows = rows_of("pages")
    assert (each.requests, each.pages, each.cost_usd, len(rows)) == (6, 6, Decimal("0.012"), 6)
    assert set(map(len, rows.pages)) == {1}
    some = ask("docs", endpoint, out="some", **settings, overrides={"request.ocr.pages": "0,2-3"})
    assert [page["index"] for page in rows_of("some").pages.iloc[0]] == [0, 2, 3]
    assert (some.pages, some.cost_usd) == (3, Decimal("0.006"))
    with pytest.raises(BudgetReachedError, match=r"up to \$0\.0120"):
        ask("docs", endpoint, out="none", **{**settings, "max_cost": "0.011"})
    with pytest.raises(InputError, match=r"`?source.pdf=`?pages"):
        ask("docs", endpoint, out="other", **OFR)


def test_a_budget_in_dollars(scans: Path, command: Command) -> None:
    """It needs a price by page, which estimate and dry run show too; it is never exceeded, and resumes."""
    Path("priced.toml").write_text(PRICED)
    with emulator() as url:
        ends = "-o", "out", "--base-url", url
        code, _, stderr = command("run", "scans", *ends, "--task", "ocr", "--model", "m", "--max-cost", "1")
        assert (code, "usd_per_page" in stderr) == (2, True)
        assert "up to $0.0020 each" in command("run", "scans", *ends, "-c", "priced.toml", "--dry-run")[1]
        estimated = json.loads(command("estimate", "scans", "-c", "priced.toml", "--json")[1])
        assert estimated["models"][0]["cost_usd"]["expected"] == "0.01"
        assert estimated["models"][0]["pages"]["expected"] == 5
        spent = [
            command("run", "scans", *ends, "-c", "priced.toml", "--max-cost-total", most)[0] for most in ("0.005", "1")
        ]
        assert spent == [3, 0]
        assert emulator_get(url, "stats")["pages"] == 4
    assert rows_of().cost_usd.sum() == Decimal("0.008")
    stated = PRICED.replace("0.002", "9")
    Path("priced.toml").write_text(stated)
    with emulator(["--usd-per-page", "0.001"]) as url:
        summary = ask(scans, url, out="stated", config="priced.toml", model=None, yes=True)
        assert summary.cost_usd == Decimal("0.004")
        with pytest.raises(InputError, match="expected to cost"):
            ask(scans, url, out="dear", config="priced.toml", model=None)


def test_limits_and_errors(scans: Path) -> None:
    """Requests a minute hold, tokens have no part in it; errors of the endpoint end a run as with captions."""
    with emulator(["--rpm", "600", "--tpm", "1"]) as url:
        assert ask(scans, url, **OCR, rpm=600, tpm=1, limit=2).exit_code == 0
    for fault in ("bad_key", "insufficient_quota"):
        with emulator(["--fault", f"{fault}=1"]) as url, pytest.raises(EndpointStoppedError):
            ask(scans, url, out=fault, **OCR)
    with (
        emulator(["--models", "mistral-ocr-latest"]) as url,
        pytest.raises(EndpointStoppedError, match="does not exist"),
    ):
        ask(scans, url, out="model", task="ocr", model="mistral-ocr-9")
    for fault, kinds in (("empty_choices", {"empty_answer"}), ("broken_json", {"invalid_response"})):
        with emulator(["--fault", f"{fault}=1"]) as url:
            summary = ask(scans, url, out=fault, **OCR, limit=1, overrides={"request.max_failures": 2})
        assert (summary.exit_code, set(summary.by_error)) == (1, kinds)
    with emulator(["--fault", "refusal=1"]) as url:
        assert ask(scans, url, out="refused", **OCR, limit=1).by_status == {"refused": 1}


def test_what_is_sent(scans: Path) -> None:
    """One request an image, below the host and not below `/v1`; a record of several images fails, and only that."""
    manifest = scans / "list.jsonl"
    manifest.write_text('{"id": "a", "image": "1.jpg"}\n{"id": "b", "image": ["0.jpg", "1.jpg"]}\n')
    with emulator() as url:
        summary = ask(manifest, url, **OFR)
        (request,) = emulator_get(url, "requests")
    assert (summary.exit_code, summary.requests) == (1, 1)
    assert rows_of().loc["b"].error_kind == "request_too_large"
    assert request["path"] == "/vision"
    assert request["body"]["image"]["source"]["imageUri"].startswith("data:image/jpeg;base64,<")


@pytest.mark.parametrize("name", ["aimlapi-ocr", "aimlapi-ofr", "mistral-ocr"])
def test_presets(name: str, scans: Path, command: Command, endpoint: str) -> None:
    """Their dry runs show address and body; `check` sees the picture."""
    code, shown, _ = command("run", "scans", "-c", name, "--dry-run")
    path = {"aimlapi-ocr": "api.aimlapi.com/v1/ocr", "aimlapi-ofr": "api.aimlapi.com/vision"}
    assert code == 0
    assert f"https://{path.get(name, 'api.mistral.ai/v1/ocr')} (nothing is sent now)" in shown
    assert "pages: 1; cost: unknown" in shown
    code, shown, _ = command("check", "-c", name, "--base-url", endpoint)
    assert (code, "pages       1 billed" in shown, "sees images yes" in shown) == (0, True, True)
