"""What `models` says, whose family a private name is, and whose price counts."""

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import pytest

import pipeline
from pipeline.catalogue import families, family_named, first_family, near_names, price_of
from pipeline.catalogue.prices import Price, cost_usd
from pipeline.commands.models import model_cards, table
from pipeline.config.families import family_for
from pipeline.config.loading import load_config, presets
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.pricing import own_price, price_for
from pipeline.errors import InputError
from pipeline.records import Usage

TODAY = date(2026, 11, 20)
OWN = """
checked_on = 2026-11-20
[sources.bill]
title = "Our bill"
url = "https://example.com"
checked_on = 2026-11-20
[[family]]
name = "ours"
match = ["my-deployment*"]
[[family.rule]]
name = "ours-2026"
kind = "openai-tile"
params = { base = 1, tile = 2 }
source = "bill"
"""
PRICES = """
[prices]
usd_per_hour = "2.5"
[[prices.models]]
model = "gpt-4o"
base_url = "https://elsewhere.example"
input_usd_per_mtok = 1
output_usd_per_mtok = 2
[[prices.models]]
model = "acme-*"
input_usd_per_mtok = "0.40"
output_usd_per_mtok = "1.60"
cached_usd_per_mtok = "0.1"
source = "contract"
checked_on = 2026-10-01
[[prices.models]]
model = "vendor/ocr"
usd_per_image = "0.001"
usd_per_request = "0.0005"
"""


def config(text: str = "", **overrides: object) -> RunConfig:
    Path("mine.toml").write_text(text, encoding="utf-8")
    return load_config("mine.toml", {name.replace("__", "."): value for name, value in overrides.items()}, {})


def lines(name: str, settings: RunConfig | None = None) -> str:
    return "\n".join(model_cards(settings or config(), TODAY, name)[0].lines())


def test_every_family_has_a_card() -> None:
    """All families are listed, each card has a line a fact with its source, and all of it is JSON."""
    cards = model_cards(config(), TODAY)
    assert [card.name for card in cards] == [family.name for family in families()]
    lines = table(cards)
    assert lines.index("") == 1 + len(cards)
    assert lines[-1] == "by model: vision-batch models NAME shows the price of one."
    assert json.loads(json.dumps([card.as_dict() for card in cards]))
    for card in cards:
        assert all(rule.source.title and rule.source.url and rule.parameters for rule in card.rules)
        assert sum(line.startswith("size ") for line in card.lines()) == len(card.sizes) >= 3


def test_a_model_in_full() -> None:
    """Rule with parameters, source and date; sent sizes and tokens by detail; limits; price with source."""
    said = lines("openai/gpt-4o-2024-08-06")
    for words in (
        "family gpt-4o (gpt-4o*",
        "openai-tile-2026-08 (published)",
        "base 85, tile 170, high (max_side 2048, max_short_side 768)",
        "read 2026-11-20: https://",
        "low, high; auto means high",
        "4032x3024 auto: sent 1024x768, 765 tokens",
        "4032x3024 low: sent 512x384, 85 tokens",
        "512 MiB a request",
        "max_tokens; JSON schema: strict",
        "50% off, 50,000 requests a file",
        "$2.50 in (cached $1.25), $10 out a million tokens (genai-prices ",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("model", "trap"),
    [
        ("gpt-5.4", "low costs more than high: 3,687 against 2,942 tokens at 4032x3024"),
        ("gpt-5.6", "auto means original: 14,364 tokens at 4032x3024, 4.9 times the 2,942 of `request.detail=high`"),
        ("gpt-4.1-mini", "3 published rules may bill it"),
        ("gemini-4-pro", "no bill and no document confirms its rule"),
    ],
)
def test_traps_are_named(model: str, trap: str) -> None:
    """What costs more than one would think is said, with what is cheaper."""
    assert f"trap         {trap}" in lines(model)


def test_a_name_that_nobody_knows() -> None:
    """A sentence with the nearest names, bounds, and no price; not an error."""
    said = lines("gpt-5o")
    assert "this model is in no catalogue; like it are: gpt-5" in said
    assert "1024x768 auto: sent 1024x768, 1,064 (256 to 25,501) tokens" in said
    assert said.splitlines()[-1] == (
        "price        unknown; to give yours, in dollars for a million tokens: "
        '`prices.models=[{model="gpt-5o",input_usd_per_mtok=0.1,output_usd_per_mtok=0.4}]`'
    )
    assert near_names("zzzzzz") == []
    assert "\x1b" not in lines("a\x1b[31m")


def test_families_of_ones_own() -> None:
    """A file of the user's, and `request.model_family`, decide before the catalogue; neither changes what is asked."""
    Path("models.toml").write_text(OWN, encoding="utf-8")
    own = config(catalogue__file="models.toml")
    assert "ours-2026" in lines("my-deployment-7", own)
    assert model_cards(own, TODAY)[0].name == "ours"
    named = config(request__model="secret", request__model_family="gpt-4o-mini")
    family = family_for(named)
    assert family is not None
    assert (family.name, named.config_hash()) == ("gpt-4o-mini", config(request__model="secret").config_hash())
    assert family_named("openai/gpt-4o-2024-08-06").name == "gpt-4o"
    with pytest.raises(InputError, match=r"'gtp-4o': no such family; did you mean gpt-4o"):
        family_for(config(request__model_family="gtp-4o"))


def test_the_first_name_that_is_known() -> None:
    """Of what a server says of a model, the path of the weights tells its family."""
    family = first_family(("adapter-7", "/models/Qwen2.5-VL-7B-Instruct"))
    assert family is not None
    assert family.name == "qwen2.5-vl"
    assert first_family(()) is None


def test_own_prices_count_first() -> None:
    """By name or pattern, with or without a gateway's prefix, at one endpoint or all; else the published price."""
    settings = config(PRICES)
    acme = price_for(settings.model_copy(), settings.endpoint.model_copy(update={"model": "x/acme-1"}), emulated=False)
    assert acme == Price(
        Decimal("0.40"), Decimal("1.60"), Decimal("0.1"), source="contract", checked_on=date(2026, 10, 1)
    )
    assert str(acme) == "$0.40 in (cached $0.10), $1.60 out a million tokens"
    assert acme is not None
    assert acme.origin == "contract, 2026-10-01"
    own = settings.prices.models
    there = own_price(own, "gpt-4o", "https://elsewhere.example/v1")
    assert there is not None
    assert there.input_usd_per_mtok == 1
    assert own_price(own, "gpt-4o", "https://api.openai.com/v1") is None
    published = price_for(settings, settings.endpoint.model_copy(update={"model": "gpt-4o"}), emulated=False)
    assert published == price_of("gpt-4o", "https://api.openai.com/v1")
    assert "contract, 2026-10-01" in lines("acme-1", settings)


def test_prices_of_images_and_requests() -> None:
    """What is charged whatever the tokens is known where none are stated, and adds to them where both are charged."""
    flat = own_price(config(PRICES).prices.models, "vendor/ocr", None)
    assert flat is not None
    assert cost_usd(Usage(), flat) == Decimal("0.0015")
    assert cost_usd(Usage(), flat, images=3) == Decimal("0.0035")
    assert str(flat) == "$0.001 an image and $0.0005 a request"
    both = Price(Decimal(1), Decimal(0), usd_per_image=Decimal("0.01"))
    assert cost_usd(Usage(prompt_tokens=1_000_000), both) == Decimal("1.01")
    assert cost_usd(Usage(), both) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[prices.models]]\nmodel = "m"\n', "the price of 'm' needs input_usd_per_mtok and output_usd_per_mtok"),
        ('[[prices.models]]\nmodel = "m"\ninput_usd_per_mtok = 1\n', "the price of 'm' needs"),
        ('[[prices.models]]\nmodel = "m"\nusd_per_image = -1\n', "must be at least 0"),
        ("[prices]\nusd_per_hour = 0\n", "prices.usd_per_hour"),
        ("[[prices.models]]\nusd_per_image = 1\n", "'prices.models.0.model' is missing"),
        (
            '[[prices.models]]\nmodel = "m"\ninput = 1\n',
            "unknown key 'prices.models.0.input'; known: model, ",
        ),
        ('[prices.models]\nmodel = "m"\n', "write [[prices.models]] in two brackets"),
        ('[endpoints]\nbase_url = "https://a.example"\n', "write [[endpoints]] in two brackets"),
    ],
)
def test_prices_that_make_no_sense(text: str, said: str) -> None:
    """Half a price is no price, and none is negative: one line says so."""
    with pytest.raises(InputError, match=r"mine\.toml") as caught:
        config(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "family", "price"),
    [
        ("openrouter:openai/gpt-4o", "gpt-4o", "openrouter/openai/gpt-4o"),
        ("azure:gpt-4o", "gpt-4o", "azure/gpt-4o"),
        ("gemini:gemini-2.5-flash", "gemini-2.5", "google/gemini-2.5-flash"),
        ("aimlapi:gpt-4o", "gpt-4o", None),
        ("302ai:openai/gpt-4o", "gpt-4o", None),
        ("vllm:Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl", None),
        ("ollama:qwen2.5vl:7b", "qwen2.5-vl", None),
        ("acme:gpt-4o", "gpt-4o", None),
        ("openai/gpt-5:online", "gpt-5", None),
        ("openai", "gpt-4.1-mini", "openai/gpt-4.1-mini"),
        ("claude-high", "claude-high", None),
        ("o3", "o-series", "openai/o3"),
    ],
)
def test_names_are_those_of_an_estimate(name: str, family: str, price: str | None) -> None:
    """A provider or a preset before a colon, a preset alone, a gateway's tag after it: both commands agree."""
    (card,) = pipeline.models(name)
    assert card.family == family
    assert (card.price.source.partition(": ")[2] if card.price else None) == price
    if name != "claude-high":  # a family, which has no price
        (one,) = pipeline.estimate(models=name, count=1, sizes=["1024x768"]).models
        assert (one.name, one.family, one.price) == (card.name, card.family, card.price)
        assert one.typical_tokens.expected == card.tokens((1024, 768)).expected


def test_a_provider_that_nobody_knows() -> None:
    """It is a sentence; a tag after a colon is not taken for one."""
    said = "acme is no provider whose prices are known"
    assert said in pipeline.models("acme:gpt-4o")[0].traps
    found = pipeline.estimate(models="acme:gpt-4o,gpt-4o", count=1, sizes=["1024x768"])
    assert found.notes == (f"acme:gpt-4o: {said}",)
    for name in ("qwen2.5vl:7b", "ft:gpt-4o:me::1", "gpt-5:online", "llava:13b", "openai:gpt-4o"):
        assert not any("no provider" in trap for trap in pipeline.models(name)[0].traps)


def test_a_preset_of_a_server_that_names_no_model() -> None:
    """Its card are bounds, and a preset's endpoint leaves own prices and families where they are."""
    (card,) = pipeline.models("vllm")
    assert (card.name, card.family) == ("(the server's model) (vllm)", None)
    Path("models.toml").write_text(OWN, encoding="utf-8")
    Path("mine.toml").write_text(PRICES + '[catalogue]\nfile = "models.toml"\n', encoding="utf-8")
    (card,) = pipeline.models("aimlapi:acme-1", config="mine.toml")
    assert card.price is not None
    assert card.price.source == "contract"
    assert pipeline.models("vllm:my-deployment", config="mine.toml")[0].family == "ours"


def test_every_family_is_found_by_its_name() -> None:
    """Whatever its patterns are, and no preset is called like one."""
    for family in families():
        assert model_cards(config(), TODAY, family.name)[0].family == family.name
        assert family.name not in presets()
    Path("models.toml").write_text(OWN.replace('"ours"', '"Ours"'), encoding="utf-8")
    assert family_named("ours", Path("models.toml")).name == "Ours"


@pytest.mark.parametrize("family", [family.name for family in families()])
def test_what_is_offered_as_detail_can_be_asked_for(family: str) -> None:
    """A card names no `detail` that the configuration refuses."""
    (card,) = model_cards(config(), TODAY, family)
    for detail in card.details:
        assert config(request__detail=detail).request.detail == detail


def test_a_rule_is_shown_as_it_would_be_written() -> None:
    """The kind and its parameters by the names of a catalogue file; Gemini's resolutions by Google's."""
    assert "             gemini-grid: media_resolution_low 280, media_resolution_medium 560, " in lines("gemini-3-pro")
    assert "             qwen: factor 28, min_tokens 4, max_tokens 16384, may_add 2\n" in lines(
        "qwen2.5-vl-7b-instruct"
    )
    assert "original (max_side 65535, refused_above 30000), auto original\n" in lines("gpt-5.6")
    assert "detail       low, high; auto means high" in lines("gemini-3-pro")


def test_where_else_it_is_sold() -> None:
    """A price that is unknown under this name may be known under a provider's; both commands say so."""
    (card,) = pipeline.models("qwen2.5-vl-72b-instruct")
    assert card.price is None
    assert card.sold_as[0].partition(":")[2] == "qwen/qwen2.5-vl-72b-instruct"
    assert f"unknown; it is sold as {card.sold_as[0]}; to give yours" in "\n".join(card.lines())
    assert pipeline.models(card.sold_as[0])[0].price is not None
    assert pipeline.models("gpt-4o")[0].sold_as == ()


def test_the_files_in_the_documentation() -> None:
    """The families and the prices of docs/models.md are loaded, and found, as they stand there."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    blocks = [dedent(block) for block in re.findall(r"(?:^    .*\n|^\n)+", page, re.MULTILINE)]
    (families_said,) = [block for block in blocks if "[[family]]" in block]
    (prices_said,) = [block for block in blocks if "[[prices.models]]" in block]
    Path("my-models.toml").write_text(families_said, encoding="utf-8")
    settings = config(prices_said, catalogue__file="my-models.toml")
    assert [card.name for card in model_cards(settings, TODAY)][:2] == ["team-a", "ours"]
    assert model_cards(settings, TODAY, "team-a-3")[0].tokens((1024, 768)).expected == 765
    assert "$0.40 in (cached $0.10), $1.60 out a million tokens (contract of October, 2026-10-01)" in lines(
        "acme-vision-2", settings
    )
    assert "$0.001 an image" in lines("acme-ocr", settings)


def test_from_python_and_without_names() -> None:
    """`pipeline.models` gives the same cards."""
    assert [card.family for card in pipeline.models("gpt-4o")] == ["gpt-4o"]
    assert len(pipeline.models()) == len(families())
