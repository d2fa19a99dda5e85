"""Predicted against billed, end to end: by model in `status`, in `check`, and what a private name is billed by."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pandas as pd
import pytest

import pipeline
from pipeline.commands.check import PROMPT, misfit
from pipeline.commands.status import lines, newest_bills, read_status
from pipeline.config.loading import load_config
from pipeline.endpoints.pricing import own_price
from pipeline.errors import BudgetReachedError
from pipeline.records import ImageFacts
from tests import warm
from tests.builders import ask
from tests.emulators import emulator
from tests.http_servers import serving
from tests.support import MakeImage

PRICE = {"prices.models": [{"model": "*", "input_usd_per_mtok": 2, "output_usd_per_mtok": 8}]}
SIZES = [(320, 240), (640, 480), (800, 1200), (1400, 500), (1024, 1024)]


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(25):
        width, height = SIZES[number % len(SIZES)]
        make_image(f"photos/{number:02}.jpg", width, height, seed=number)
    return Path("photos").resolve()


@pytest.fixture
def renaming(endpoint: str) -> Iterator[str]:
    """A gateway before the emulator: it has a name of its own for gpt-4o, and says so in `/v1/models`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({"data": [{"id": "house-model", "root": "/weights/gpt-4o-mini"}, {"id": "plain"}]})

        def do_POST(self) -> None:
            from urllib.request import Request, urlopen  # noqa: PLC0415 - of this stand-in alone

            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model, body["model"] = body["model"], "gpt-4o-mini"
            headers = {"Content-Type": "application/json"}
            request = Request(f"{endpoint}/chat/completions", json.dumps(body).encode(), headers)  # noqa: S310 - loopback
            with urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
                self.reply({**json.load(response), "model": model})

        def reply(self, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as url:
        yield f"{url}/v1"


def test_a_rule_that_fits(photos: Path, endpoint: str) -> None:
    """The ratio is one, counted by the model that answered, and nothing is warned of; a rebuild counts the same."""
    ask(photos, endpoint)
    (ratio,) = read_status(Path("out")).ratios
    assert (ratio.answers, ratio.value) == (25, 1.0)
    assert read_status(Path("out")).warnings == ()
    pipeline.rebuild("out")
    assert read_status(Path("out")).ratios == (ratio,)


def test_a_rule_that_does_not_fit(photos: Path, endpoint: str) -> None:
    """Billed by another rule than it is predicted by: `status` warns, and names the rule that gives these bills."""
    ask(photos, endpoint, model_family="claude-high")
    status = read_status(Path("out"))
    (ratio,) = status.ratios
    assert ratio.is_off
    text = "\n".join(lines(status))
    assert "warning: the token rule of gpt-4o does not fit" in text
    assert "openai-tile-2026-08 (of gpt-4o; detail auto), within 0.0 %" in text
    assert json.loads(json.dumps(status.as_dict()))["ratios"][0]["answers"] == 25
    assert len(newest_bills(Path("out"), "gpt-4o")) == 25
    assert newest_bills(Path("out"), "other") == []


@pytest.mark.parametrize(("model", "family"), [("gpt-4o-mini", "gpt-4o"), ("gpt-4o", "gpt-4o-mini")])
@pytest.mark.parametrize("max_cost", [None, "0.05"])
def test_a_run_that_is_billed_for_more_says_so(
    photos: Path, endpoint: str, model: str, family: str, max_cost: str | None
) -> None:
    """Also where its budget is used up the sooner for it; of a rule that predicts too much `status` alone speaks."""
    notes: list[str] = []
    with suppress(BudgetReachedError):
        ask(
            photos, endpoint, model=model, model_family=family, max_cost=max_cost, overrides=PRICE, on_note=notes.append
        )
    (ratio,) = read_status(Path("out")).ratios
    assert (ratio.answers == 25) == (max_cost is None)
    said = f"note: {ratio.value:.2f} x the predicted prompt tokens of {model} are billed, over {ratio.answers} "
    found = [note for note in notes if " x the predicted" in note]
    assert found == ([f"{said}answers; `vision-batch status` says more"] if ratio.value > 1 else [])


@pytest.mark.parametrize("told", [False, True])
def test_what_a_private_name_is(photos: Path, renaming: str, *, told: bool) -> None:
    """A server's list, or the user, says which family a private name is: sizes and predictions are right at once."""
    more = {"model": "plain", "model_family": "gpt-4o-mini"} if told else {"model": "house-model"}
    ask(photos, renaming, **more)
    rows = pd.read_parquet("out/data")
    assert (rows.prompt_tokens == rows.predicted_prompt_tokens).all()
    assert set(rows.token_rule) == {"openai-tile-2026-08"}
    assert rows.prompt_tokens.min() > 8000  # gpt-4o-mini bills 33 times what gpt-4o does


def test_a_private_name_that_nobody_explains(photos: Path, renaming: str) -> None:
    """Its rows have the bounded rule, its cost is null, and the run is none the worse."""
    assert ask(photos, renaming, model="plain").exit_code == 0
    rows = pd.read_parquet("out/data")
    assert set(rows.token_rule) == {"unknown-2026-11"}
    assert rows.cost_usd.isna().all()
    assert "cost: unknown" in "\n".join(lines(read_status(Path("out"))))


def test_own_prices_reach_the_rows(photos: Path, endpoint: str) -> None:
    """What a row costs is the user's price times what was billed, exactly, and a budget in dollars counts it."""
    table = [{"model": "gpt-*", "input_usd_per_mtok": "3", "output_usd_per_mtok": "7", "usd_per_image": "0.002"}]
    summary = ask(photos, endpoint, overrides={"prices.models": table})
    rows = pd.read_parquet("out/data")
    price = own_price(load_config(None, {"prices.models": table}, {}).prices.models, "gpt-4o", None)
    assert price is not None
    expected = rows.prompt_tokens * 3 + rows.completion_tokens * 7 + 2000
    assert (rows.cost_usd.astype(float) * 1e6).round(3).tolist() == expected.astype(float).tolist()
    assert summary.cost_usd == rows.cost_usd.sum()
    assert "usd_per_image" in Path("out/config.toml").read_text()
    assert ask(photos, endpoint).requests == 0  # prices are no part of the question


def test_check_tells_rule_price_and_limits() -> None:
    """One request shows the rule with its source, the price with its source, and the limits of the headers."""
    with emulator(["--rpm", "600", "--tpm", "150000"]) as url:
        report = pipeline.check(model="gpt-4o", base_url=url)
    said = "\n".join(report.lines())
    assert (
        "openai-tile-2026-08 (gpt-4o; OpenAI, guide 'Images and vision', copy of August 2026, read 2026-11-20" in said
    )
    assert "600 requests a minute, 150,000 tokens a minute, from its headers" in said
    assert "no price is known for this model there" in said
    assert report.sees_images
    with emulator() as url:
        said = "\n".join(pipeline.check(model="new-model", base_url=url).lines())
    assert "its headers advertise none" in said
    assert "unknown-2026-11 (no token rule is known for this model: bounds" in said


def test_check_says_what_was_not_billed_as_predicted(endpoint: str) -> None:
    """The ratio; where it is off, the rules that would fit, or that the image is not in the bill at all."""
    right = pipeline.check(model="gpt-4o", base_url=endpoint)
    assert (right.ratio, right.warning, right.as_dict()["ratio"]) == (1.0, None, 1.0)
    wrong = pipeline.check(model="gpt-4o", model_family="claude-high", base_url=endpoint)
    said = "\n".join(wrong.lines())
    assert f"({wrong.predicted_prompt_tokens:,} predicted; {wrong.ratio:.3f} of that is billed)" in said
    assert f"warning     the token rule does not fit: {wrong.ratio:.3f} of what was predicted is billed" in said
    assert "openai-tile-2026-08 (of gpt-4o; detail auto), within 0.0 %. To say so: `request.model_family" in said
    facts = ImageFacts(
        width=256, height=256, sent_width=256, sent_height=256, sent_bytes=9, source_bytes=9, sha256="0" * 64
    )  # fmt: skip
    config = load_config(None, {"request.model": "gpt-4o", "request.prompt": PROMPT}, {})
    longer, none = replace(right, prompt_tokens=255 + 40), replace(right, prompt_tokens=12)
    assert misfit(longer, config, facts) is None  # the text, which is only estimated, may be 40 tokens long
    assert (misfit(none, config, facts) or "").startswith("the image was not billed: 12 tokens are no more than")
    assert (misfit(replace(right, prompt_tokens=9999), config, facts) or "").endswith(
        "No published rule gives this bill"
    )
    assert replace(right, cost_usd=Decimal("0E-9")).as_dict()["cost_usd"] == "0"


def test_a_host_that_tells_no_usage(photos: Path) -> None:
    """Its tokens are unknown, rather than zero, and there is no ratio to the prediction; what it costs is unknown."""

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            message = {"role": "assistant", "content": "a picture"}
            body = json.dumps({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with serving(Silent) as url:
        ask(photos, f"{url}/v1", limit=3)
    status = read_status(Path("out"))
    assert (status.prompt_tokens, status.completion_tokens, status.ratios) == (None, None, ())
    said = "\n".join(lines(status))
    assert "tokens: unknown in; unknown out; 3 requests" in said
    assert "cost: unknown" in said


def test_a_warning_reads_one_part(photos: Path, endpoint: str) -> None:
    """What `status` reads does not grow with the number of records: two small files, and the newest part."""
    ask(photos, endpoint, model_family="claude-high", overrides={"output.rows_per_part": 5})
    for part in sorted(Path("out/data").glob("*.parquet"))[:-1]:
        part.write_bytes(b"not to be read")
    assert "within 0.0 %" in read_status(Path("out")).warnings[0]
    assert len(newest_bills(Path("out"), "gpt-4o")) == 5
    max(Path("out/data").glob("*.parquet")).write_bytes(b"cut")
    assert "does not fit" in read_status(Path("out")).warnings[0]


def test_models_on_the_command_line(tmp_path: Path) -> None:
    """A table, one model, JSON, and an unknown name: exit code 0 each time, without a key or a network."""

    def said(*arguments: str) -> str:
        done = warm.run(["-m", "pipeline", "models", *arguments], timeout=60, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert said().startswith("family ")
    assert "auto means original" in said("gpt-5.6")
    assert "this model is in no catalogue" in said("no-such-model")
    assert json.loads(said("gpt-4o", "--json"))["family"] == "gpt-4o"
    assert len(json.loads(said("--json"))) > 30
