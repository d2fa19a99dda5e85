"""Runs through the Responses API: what holds of chat/completions holds there, whole and streamed."""

from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.errors import InputError
from tests.builders import ask
from tests.emulators import emulator
from tests.support import Command, MakeImage, emulator_get

SCHEMA = {"type": "object", "properties": {"scene": {"enum": ["in", "out"]}}, "required": ["scene"]}
EVERY = ("500", "disconnect", "disconnect_mid", "broken_json", "error_in_200", "empty", "truncate", "refusal")
FAULTS = [word for name in (*EVERY, "content_filter") for word in ("--fault", f"{name}=0.06")]


def responses(**more: Any) -> dict[str, Any]:
    return {"overrides": {"endpoint.api": "responses", **more}}


def draw(make_image: MakeImage, count: int) -> None:
    for number in range(count):
        make_image(f"photos/{number:03}.png", 24 + number, 20, seed=number)


@pytest.mark.parametrize("stream", [False, True])
def test_every_fault_ends_in_a_row(make_image: MakeImage, *, stream: bool) -> None:
    """Each image has one row, each fault its status, and what is billed is what the emulator charged, or less."""
    draw(make_image, 40)
    with emulator(["--fast", "--seed", "3", *FAULTS]) as url:
        more = responses(**{"request.stream": stream, "limits.max_error_rate": 1})
        summary = ask("photos", url, concurrency=4, max_failed=40, **more)
        stats = emulator_get(url, "stats")
    rows = pipeline.read("out")
    assert (len(rows), rows.attempts.sum(), summary.requests) == (40, stats["requests"], stats["requests"])
    assert len(stats["faults"]) >= len(EVERY)  # of one more
    assert set(summary.by_status) >= {"ok", "refused", "truncated"}
    refused, cut = (stats["faults"][name] for name in ("refusal", "truncate"))
    assert (rows.finish_reason == "max_output_tokens").sum() == cut
    assert (rows.status == "refused").sum() == refused + stats["faults"]["content_filter"]
    assert 0 < rows.prompt_tokens.sum() <= stats["prompt_tokens"]


def test_labels_prompts_and_a_resume(make_image: MakeImage) -> None:
    """Wrong labels are corrected; a schema that is rejected steps down; what is answered is not asked again."""
    draw(make_image, 20)
    prompts: list[dict[str, Any]] = [
        {"name": "kind", "text": "Which?", "labels": SCHEMA},
        {"name": "words", "text": "Describe it."},
    ]
    Path("two.toml").write_text(
        "".join(
            f'[[prompts]]\nname = "{one["name"]}"\ntext = "{one["text"]}"\n'
            + ("labels = 'schema.json'\n" if "labels" in one else "")
            for one in prompts
        )
    )
    Path("schema.json").write_text(str(SCHEMA).replace("'", '"'))
    with emulator(["--fast", "--fault", "labels_enum=0.2", "--seed", "1"]) as url:
        more: dict[str, Any] = {"config": "two.toml", "max_failed": 40, **responses()}
        assert ask("photos", url, limit=5, **more).requests >= 10
        summary = ask("photos", url, **more)
        stats = emulator_get(url, "stats")
        last = emulator_get(url, "requests?last=50")
    rows = pipeline.read("out")
    assert (len(rows), summary.requests < 40, set(rows.status) <= {"ok", "invalid"}) == (40, True, True)
    assert rows.prompt_tokens.sum() == stats["prompt_tokens"]
    assert rows.attempts.sum() == stats["requests"]
    assert any(
        one["body"]["input"][-1]["content"].startswith("This answer is not valid")
        for one in last
        if isinstance(one["body"]["input"][-1]["content"], str)
    )
    Path("own.toml").write_text(
        'checked_on = 2026-11-20\n[sources.s]\ntitle = "t"\nurl = "https://a.test"\nchecked_on = 2026-11-20\n'
        '[api]\njson_schema = "json_object"\nsource = "s"\n[[family]]\nname = "older"\nmatch = ["older"]\n'
    )
    with emulator(["--fast", "--catalogue", str(Path("own.toml").absolute())]) as url:
        summary = ask("photos", url, out="down", model="older", labels=SCHEMA, **responses())
        first, *_, second = (one["body"]["text"]["format"]["type"] for one in emulator_get(url, "requests?last=50"))
    assert (summary.by_status, first, second) == ({"ok": 20}, "json_schema", "json_object")


def test_money_limits_tiers_and_equal_requests(make_image: MakeImage) -> None:
    """Predictions are bills, equal images are asked once, the tier falls back, and the cost is as in chat."""
    for number in range(6):
        make_image(f"photos/{number}.png", 640, 480, seed=number // 2)
    settings: dict[str, Any] = {"request.service_tier": "flex", "request.service_tier_fallback": "default"}
    prices = [{"model": "gpt-5-mini", "input_usd_per_mtok": 1, "output_usd_per_mtok": 4}]
    costs = []
    for api in ("chat", "responses"):
        with emulator(["--fast", "--rpm", "6000", "--tier-shortage", "0.5", "--seed", "2"]) as url:
            more = {**settings, "endpoint.api": api, "prices.models": prices}
            summary = ask("photos", url, out=api, model="gpt-5-mini", max_cost=1, overrides=more)
            assert (summary.exit_code, emulator_get(url, "stats")["answered"]) == (0, 3)
        rows = pipeline.read(api)
        asked = rows[rows.duplicate_of.isna()]
        assert (asked.prompt_tokens == asked.predicted_prompt_tokens).all()
        costs.append(sorted(asked.cost_usd))
    assert costs[0] == costs[1]


def test_a_model_without_chat_completions(make_image: MakeImage, command: Command) -> None:
    """It is asked through the Responses API unasked, and the user is told; `--api chat` and a gateway are not."""
    draw(make_image, 2)
    with emulator(["--fast"]) as url:
        code, _, stderr = command("run", "photos", "-o", "out", "--model", "o3-pro", "--base-url", url)
        assert (code, emulator_get(url, "requests?last=1")[0]["path"]) == (0, "/v1/responses")
        assert "note: o3-pro is asked through the Responses API: it has no chat/completions (OpenAI" in stderr
        for more in (["--model", "o3-pro", "--api", "chat"], ["--model", "openai/o3-pro"], ["--model", "o3"]):
            code, shown, stderr = command("run", "photos", "--dry-run", "--base-url", url, *more)
            assert (code, "/v1/chat/completions (nothing" in shown, "Responses" in stderr) == (0, True, False)
        assert "api          responses: it has no" in command("models", "gpt-5-pro")[1]
        assert "reachable, the request was accepted" in command("check", "--model", "o1-pro", "--base-url", url)[1]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_original_where_a_model_has_it(make_image: MakeImage, api: str) -> None:
    """Each detail is sent, sized and billed as predicted, within the 30,000 patches; refused where a model lacks it."""
    make_image("photos/a.jpg", 6000, 5600)
    sizes = {}
    with emulator(["--fast"]) as url:
        more: dict[str, Any] = {"model": "gpt-5.6-sol", "api": api}
        for detail in ("low", "original") if api == "chat" else ("high", "auto"):
            assert ask("photos", url, out=f"{api}-{detail}", detail=detail, **more).exit_code == 0
            row = pipeline.read(f"{api}-{detail}").iloc[0]
            assert row.prompt_tokens == row.predicted_prompt_tokens
            sizes[detail] = row.sent_width, row.sent_height
            body = emulator_get(url, "requests?last=1")[0]["body"]
            asked = str(body.get("messages") or body["input"])
            is_named = f"'detail': '{detail}'" in asked
            assert is_named is (detail != "auto" or api == "responses")
        smaller, whole = sizes.values()
        assert max(smaller) <= (512 if api == "chat" else 2048) < max(whole) < 6000
        columns, rows = (-(-side // 32) for side in whole)
        assert 29_000 < columns * rows <= 30_000
        with pytest.raises(InputError, match=r"detail=original`: gpt-5\.2 takes auto, low, high"):
            ask("photos", url, detail="original", model="gpt-5.2", api=api)


def test_what_the_api_lacks(make_image: MakeImage, command: Command) -> None:
    """Refused with the setting's name, or left out where that is wanted; endpoints of one run share the API."""
    draw(make_image, 1)
    with emulator(["--fast"]) as url:
        more = ["run", "photos", "-o", "out", "--model", "gpt-4o", "--base-url", url, "--api", "responses"]
        code, _, stderr = command(*more, "--set", "request.n=3")
        assert (code, "gpt-4o is asked through the API `responses`, which does not have it" in stderr) == (2, True)
        assert command(*more, "--set", "request.n=3", "--set", "request.adapt=true")[0] == 0
        shared = f'[[endpoints]]\nbase_url = "{url}"\napi = "responses"\n[[endpoints]]\nbase_url = "{url}"\n'
        Path("two.toml").write_text(f'{shared}api_key_env = "OTHER"\n')
        with pytest.raises(InputError, match="share their requests, and these differ: responses, chat"):
            pipeline.run("photos", out="two", config="two.toml", model="gpt-4o", quiet=True)
