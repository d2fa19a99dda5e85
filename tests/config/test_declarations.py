"""A setting is declared once: its keyword, its flag and its row in the documentation follow, and old hashes stay."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.app import command
from pipeline.config.keywords import keywords, resolve
from pipeline.config.loading import load_config
from pipeline.config.run_config import RunConfig, settings
from pipeline.config.sections import RequestConfig, Settings
from pipeline.config.setting import setting_of
from pipeline.errors import InputError

HASHES: list[tuple[str | None, dict[str, Any], str]] = [
    (None, {}, "abe145c8e86b059d"),
    (None, {"request.model": "gpt-4o"}, "7cdfc44972e12972"),
    (
        None,
        {
            "request.model": "gpt-4o", "request.prompt": "What?", "request.system": "s", "request.detail": "low",
            "request.temperature": 0.5, "request.extra.seed": 7,
        },
        "f15edc9c73832b2c",
    ),
    (None, {"images.max_image_tokens": 500, "images.quality": 70, "images.max_side": 900}, "4001e1616f28c0e2"),
    (
        None,
        {"request.max_tokens": None, "request.dedup": False, "request.max_failures": 2, "limits.rpm": 5},
        "2a8e38e47054f051",
    ),
    ("openai", {}, "12c70cda46498a10"),
    ("demo", {}, "7cdfc44972e12972"),
    ("gemini", {}, "87f9062d80d6e24c"),
    ("302ai", {}, "7cdfc44972e12972"),
    ("vllm", {"request.prompt": "Für Élise"}, "5cc5f596c0a1b81c"),
]  # fmt: skip
TRANSPORT = {"max_tokens_field", "model_family", "dedup", "max_failures", "stream", "adapt", "user"} | {
    "service_tier",
    "service_tier_fallback",
    "reasoning_allowance",
    "labels_mode",
}


@pytest.mark.parametrize(("preset", "overrides", "expected"), HASHES)
def test_datasets_keep_their_hash(preset: str | None, overrides: dict[str, Any], expected: str) -> None:
    """These hashes are those of datasets that exist: a new setting at its default changes none of them."""
    assert load_config(preset, overrides, environ={}).config_hash() == expected


def test_every_setting_of_the_request_is_hashed_or_transport() -> None:
    """A setting of [request] changes what the model is asked, unless it is named here as transport."""
    unhashed = {name for name, field in RequestConfig.model_fields.items() if not setting_of(field).in_hash}
    assert unhashed == TRANSPORT


def test_every_setting_is_described_by_one_sentence() -> None:
    """Help texts begin with a capital, end with a full stop, and fit two lines of a terminal."""
    for one in settings():
        assert one.setting.help[0].isupper() or one.setting.help[0] == "`", one.key
        assert one.setting.help.endswith("."), one.key
        assert len(one.setting.help) < 130, one.key


def test_keywords_for_type_checkers_are_the_declared_ones() -> None:
    """`Settings` lists the keywords of the declarations, and `overrides`."""
    assert Settings.__annotations__.keys() == keywords().keys() | {"overrides"}


@pytest.mark.parametrize("name", ["run", "estimate"])
def test_every_keyword_is_a_flag(name: str) -> None:
    """`run` and `estimate` have the flag of every setting that has a keyword."""
    flags = {flag for option in command(name).params for flag in option.opts}
    assert {one.flag for one in settings() if one.setting.keyword} <= flags


def test_a_key_of_the_endpoint_holds_for_all_of_a_file(tmp_path: Path) -> None:
    """`api_key_env=` replaces the variable of every `[[endpoints]]` too; an address of its own stays."""
    path = tmp_path / "two.toml"
    path.write_text(
        '[[endpoints]]\nbase_url = "http://a.example"\napi_key_env = "A"\n'
        '[[endpoints]]\nbase_url = "http://b.example"\n',
        encoding="utf-8",
    )
    for config in (path, load_config(path, environ={})):
        found = resolve(config, {"api_key_env": "OTHER"}).all_endpoints
        assert [one.api_key_env for one in found] == ["OTHER", "OTHER"]
        assert [one.base_url for one in found] == ["http://a.example/v1", "http://b.example/v1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rpm": -1}, "`rpm=`: limits.rpm: must be at least 0.001 (got -1)"),
        (
            {"overrides": {"limits.rpm": -1}},
            '`overrides["limits.rpm"]`: must be at least 0.001 (got -1)',
        ),
        ({"max_time": "soon"}, "`max_time=`: budget.max_time_s: no duration; write for example 90s, 45m, 4h or 1h30m"),
    ],
)
def test_errors_name_the_setting_as_it_was_given(given: Settings, message: str) -> None:
    """A keyword by its keyword, an override by its key; neither by a flag."""
    with pytest.raises(InputError) as caught:
        resolve(None, given)
    assert str(caught.value).startswith(message)
    assert "--" not in str(caught.value)


def test_durations_and_money_as_people_write_them() -> None:
    """A time may be a text, an amount a number, a text or a Decimal."""
    config = resolve(None, {"max_time": "1h30m", "max_cost": 0.1, "max_cost_total": "12.5"})
    assert (config.budget.max_time_s, str(config.budget.max_cost_usd)) == (5400.0, "0.1")
    assert str(config.budget.max_cost_total_usd) == "12.5"
    assert RunConfig() == resolve(None, {"max_time": None})


def test_the_page_of_settings_is_the_declarations() -> None:
    """docs/settings.md has a row for each setting: `python docs/write_settings.py` writes it."""
    from docs.write_settings import PAGE, page  # noqa: PLC0415 - a script beside the pages

    assert PAGE.read_text(encoding="utf-8") == page()
