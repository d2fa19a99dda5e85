"""Every parameter of a request: sent as set, refused or left out where the model does not take it; what it gives."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import InputError
from pipeline.commands.preview import first_request
from pipeline.config.loading import load_config
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import RequestConfig
from pipeline.run.job import Job
from tests.emulators import emulator
from tests.stub import Reply, stub
from tests.support import Command, MakeImage, emulator_get

UNREACHABLE = "http://127.0.0.1:9/v1"
ONE_COLOUR = (64, 48)


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(4):
        make_image(f"photos/{number}.jpg", *ONE_COLOUR, seed=number)
    return Path("photos").resolve()


def ask(source: Path, url: str, out: str = "out", model: str = "gpt-4o", **overrides: Any) -> pipeline.RunSummary:
    settings = {f"request.{name}": value for name, value in overrides.items()}
    return pipeline.run(source, out=out, base_url=url, model=model, quiet=True, overrides=settings)


def test_choices_and_confidence_are_columns(photos: Path) -> None:
    """`n = 3` and `logprobs` fill `captions` and `confidence`; usage is counted once; without them neither exists."""
    with emulator(["--fast"]) as url:
        assert ask(photos, url, n=3, logprobs=True).exit_code == 0
        rows = pd.read_parquet("out/data")
        assert list(rows.captions.map(len)) == [3] * 4
        assert rows.confidence.between(0.6, 1).all()
        stats = emulator_get(url, "stats")
        assert (stats["answered"], stats["billed"]) == (4, 12)
        assert rows.completion_tokens.sum() == stats["completion_tokens"]
        assert rows.prompt_tokens.sum() == stats["prompt_tokens"]
        ask(photos, url, out="plain")
        assert {"captions", "confidence"}.isdisjoint(pd.read_parquet("plain/data").columns)


def test_a_stop_ends_the_answer(photos: Path) -> None:
    """The text ends before it, and `ok` stays the status."""
    with emulator(["--fast"]) as url:
        ask(photos, url, stop=[" pixels"])
    rows = pd.read_parquet("out/data")
    assert set(rows.status) == {"ok"}
    assert not rows.caption.str.contains("pixels").any()


@pytest.mark.parametrize(
    ("model", "name", "value", "words"),
    [
        ("gpt-4o", "detail", "original", "takes auto, low, high"),
        ("gpt-4o", "reasoning_effort", "low", "does not take it"),
        ("gpt-4o", "service_tier", "flex", "has the tiers default, priority"),
        ("o4-mini", "temperature", 0.5, "does not take it"),
        ("o4-mini", "logprobs", True, "does not take it"),
        ("gpt-5-mini", "temperature", 0.5, "takes only 1"),
        ("gpt-5-mini", "reasoning_effort", "none", "takes minimal, low, medium, high"),
        ("claude-haiku-4-5", "n", 2, "takes only 1"),
        ("grok-4", "presence_penalty", 1.5, "does not take it"),
    ],
)
def test_what_a_family_does_not_take(photos: Path, model: str, name: str, value: Any, words: str) -> None:
    """Exit 2 before anything is sent, with the way out; with `adapt` it is left out, which is noted once."""
    with pytest.raises(InputError) as caught:
        ask(photos, UNREACHABLE, model=model, **{name: value})
    assert f"`request.{name}={value}`: {model} {words}" in str(caught.value)
    assert "`request.adapt=true`" in str(caught.value)
    assert not Path("out").exists()
    with emulator(["--fast"]) as url:
        assert ask(photos, url, model=model, adapt=True, **{name: value}).exit_code == 0
        sent = emulator_get(url, "requests?last=1")[0]["body"]
        image = sent["messages"][0]["content"][1]["image_url"]
        assert name not in {**sent, **image} or sent.get(name) == "minimal"


def test_only_without_reasoning(photos: Path) -> None:
    """gpt-5.1 takes a temperature as long as it does not reason."""
    with emulator(["--fast"]) as url:
        assert ask(photos, url, model="gpt-5.1", temperature=0.2).exit_code == 0
        with pytest.raises(InputError, match=r"takes it only with `request\.reasoning_effort=none`"):
            ask(photos, url, "other", model="gpt-5.1", temperature=0.2, reasoning_effort="low")


def test_notes_are_shown_once(photos: Path, command: Command) -> None:
    """The command says what it leaves out, and spells the way out as a flag."""
    with emulator(["--fast"]) as url:
        asked = ["run", str(photos), "--base-url", url, "--model", "o4-mini", "--temperature", "0.5"]
        code, _, stderr = command(*asked, "-o", "out")
        assert code == 2
        assert "--set request.adapt=true" in stderr
        code, _, stderr = command(*asked, "-o", "out", "--set", "request.adapt=true")
        assert code == 0
        assert stderr.count("is left out: o4-mini does not take it") == 1


def test_no_limit_of_tokens(photos: Path, command: Command) -> None:
    """`--max-tokens none` sends none, also for a model that reasons; a budget in dollars needs one."""
    with emulator(["--fast"]) as url:
        asked = ["run", str(photos), "--base-url", url, "--model", "gpt-5-mini", "--max-tokens", "none"]
        code, _, stderr = command(*asked, "-o", "out")
        assert code == 0, stderr
        sent = emulator_get(url, "requests?last=1")[0]["body"]
        assert {"max_tokens", "max_completion_tokens"}.isdisjoint(sent)
        assert 'max_tokens = "none"' in Path("out/config.toml").read_text()
        price = '[{"model": "*", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}]'
        code, _, stderr = command(*asked, "-o", "other", "--max-cost", "1", "--set", f"prices.models={price}")
        assert code == 2
        assert "needs a bound of the answer" in stderr


def test_what_extra_held_has_a_setting_now() -> None:
    """`request.extra.n` is `request.n`, and neither asks another dataset; both at once are an error."""
    once = load_config(None, {"request.extra": {"n": 3, "seed": 7, "top_k": 5}}, {})
    now = load_config(None, {"request.n": 3, "request.seed": 7, "request.extra.top_k": 5}, {})
    assert (once.request.n, once.request.extra) == (3, {"top_k": 5})
    assert once.config_hash() == now.config_hash() != RunConfig().config_hash()
    assert once.identity()["extra"] == {"n": 3, "seed": 7, "top_k": 5}
    with pytest.raises(InputError, match=r"extra\.n"):
        load_config(None, {"request.n": 3, "request.extra.n": 2}, {})
    transport = {"service_tier": "flex", "user": "me", "stream": True, "adapt": True, "reasoning_allowance": 9}
    same = load_config(None, {f"request.{name}": value for name, value in transport.items()}, {})
    assert same.config_hash() == RunConfig().config_hash()


def test_query_parameters_are_sent_and_not_written(photos: Path) -> None:
    """`endpoint.query` stands in the address of every request; a secret in it is in no file of OUT."""
    with stub() as server:
        overrides = {"endpoint.query": {"api-version": "2026-01-01", "sig": "s3cret-signature"}}
        pipeline.run(photos, out="out", base_url=server.base_url, model="gpt-4o", quiet=True, overrides=overrides)
        assert set(server.paths) == {"/v1/chat/completions?api-version=2026-01-01&sig=s3cret-signature"}
    written = [path.read_bytes() for path in Path("out").rglob("*") if path.is_file()]
    assert not any(b"s3cret-signature" in content for content in written)


# ---------------------------------------------------------------- streams


def test_streams_are_read_whole(photos: Path) -> None:
    """The same answers, tokens, choices and confidence as without `stream`."""
    with emulator(["--fast"]) as url:
        for out, stream in (("plain", False), ("streamed", True)):
            ask(photos, url, out=out, stream=stream, n=2, logprobs=True)
        assert emulator_get(url, "requests?last=1")[0]["body"]["stream_options"] == {"include_usage": True}
    plain, streamed = (pd.read_parquet(f"{out}/data").set_index("id").sort_index() for out in ("plain", "streamed"))
    same = ["status", "caption", "finish_reason", "prompt_tokens", "completion_tokens", "cost_usd", "model"]
    pd.testing.assert_frame_equal(plain[same], streamed[same])
    assert plain.captions.map(list).equals(streamed.captions.map(list))
    assert (plain.confidence - streamed.confidence).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("refusal", "refused", "refused"),
        ("content_filter", "refused", "content_filter"),
        ("truncate", "truncated", None),
        ("empty", "failed", "empty_answer"),
        ("disconnect_mid", "failed", "connection"),
        ("broken_json", "failed", "connection"),
        ("error_in_200", "failed", "server_error"),
    ],
)
def test_what_goes_wrong_in_a_stream(make_image: MakeImage, fault: str, status: str, kind: str | None) -> None:
    """It means what it means without one; a stream that breaks off is a failure of the connection."""
    make_image("one/0.jpg", *ONE_COLOUR)
    with emulator(["--fast", "--fault", f"{fault}=1"]) as url:
        ask(Path("one"), url, stream=True, max_failures=1)
    (row,) = pd.read_parquet("out/data").to_dict("records")
    assert (row["status"], None if pd.isna(row["error_kind"]) else row["error_kind"]) == (status, kind)


# ---------------------------------------------------------------- service tiers


@pytest.mark.usefixtures("shared_emulator")
def test_a_tier_has_its_own_price(photos: Path) -> None:
    """Half at `flex`, more at `priority`, and the tier that served a request is the one that counts."""
    costs: dict[str, Decimal] = {}
    with emulator(["--fast"]) as url:
        for tier in ("default", "flex", "priority"):
            settings: Any = {"model": "gpt-5-mini", "quiet": True, "overrides": {"request.service_tier": tier}}
            pipeline.run(photos, out=tier, base_url=url, **settings)
            rows = pd.read_parquet(f"{tier}/data")
            assert rows.cost_usd.isna().all()  # an address on this machine sells nothing
            summary = pipeline.run(photos, out=f"{tier}-rehearsed", emulator=True, **settings)
            costs[tier] = summary.cost_usd or Decimal(0)
    assert costs["flex"] * 2 == costs["default"] > 0
    assert costs["priority"] == costs["default"] * Decimal("1.8")


def test_a_shortage_is_waited_for_or_falls_back(photos: Path) -> None:
    """No capacity at `flex`: `default` answers the same request there and then; `wait` asks until there is some."""
    with emulator(["--fast", "--tier-shortage", "1"]) as url:
        summary = ask(photos, url, model="gpt-5-mini", service_tier="flex", service_tier_fallback="default")
        assert (summary.exit_code, summary.by_status) == (0, {"ok": 4})
        assert set(pd.read_parquet("out/data").attempts) == {1}
        sent = [one["body"]["service_tier"] for one in emulator_get(url, "requests?last=50")]
        assert sorted(sent) == ["default"] * 4 + ["flex"] * 4
    with emulator(["--fast", "--tier-shortage", "0.3", "--seed", "3"]) as url:
        summary = ask(photos, url, "waited", model="gpt-5-mini", service_tier="flex")
        assert (summary.exit_code, summary.by_status) == (0, {"ok": 4})
        assert {one["body"]["service_tier"] for one in emulator_get(url, "requests?last=50")} == {"flex"}


def test_the_budget_reserves_the_dearer_tier(photos: Path) -> None:
    """A request that may fall back to the default tier reserves that tier's price."""
    own: Any = {"service_tier": "flex", "service_tier_fallback": "wait"}
    shown = {}
    for fallback in ("wait", "default"):
        own["service_tier_fallback"] = fallback
        overrides = {f"request.{name}": value for name, value in own.items()}
        config = load_config(None, {"request.model": "gpt-5-mini", **overrides}, {})
        found = first_request(Job(sources=[str(photos)], out=Path("out"), config=config), has_out=False)
        assert found is not None
        assert found.most_usd is not None
        shown[fallback] = found.most_usd
    assert abs(shown["default"] - shown["wait"] * 2) <= Decimal("2e-9")


def test_no_capacity_in_openais_words(photos: Path) -> None:
    """429 with `resource_unavailable` is an endpoint without capacity, not a rate limit."""
    error = {"error": {"message": "Resource Unavailable", "type": "resource_unavailable", "code": None, "param": None}}
    seen: list[int] = []

    def decide(_: int) -> int | Reply:
        seen.append(1)
        return Reply(429, error, {"retry-after-ms": "20"}) if len(seen) == 1 else 200

    with stub(decide) as server:
        summary = ask(photos, server.base_url, model="gpt-5-mini", service_tier="flex")
    assert (summary.exit_code, summary.by_status) == (0, {"ok": 4})


def test_parameters_are_declared_once() -> None:
    """What is set is sent under its own name, in the order of the declarations; defaults are not."""
    request = RequestConfig(temperature=0.5, n=2, stop=("a",), logprobs=True, top_logprobs=3, user="me")
    assert request.sent_parameters == {
        "temperature": 0.5, "n": 2, "stop": ("a",), "user": "me", "logprobs": True, "top_logprobs": 3,
    }  # fmt: skip
    assert RequestConfig().sent_parameters == {}
