"""What is compared under which family, what sizing saves, and that a rehearsal is billed by the family of the run."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.catalogue import families, rule_of
from pipeline.commands.models import Asked, model_cards
from pipeline.config.families import family_for
from pipeline.config.loading import load_config
from pipeline.endpoints.pricing import price_for
from pipeline.errors import InputError
from pipeline.estimates.figures import ModelEstimate
from pipeline.estimates.histogram import SizeHistogram
from pipeline.estimates.job import Candidate
from pipeline.estimates.render import text as render
from pipeline.records import ImageFacts
from pipeline.run.prepare import Preparer
from pipeline.tokens import TokenRange
from pipeline.tokens.prompt import PromptShape
from pipeline.tokens.ranges import Range
from tests.commands.test_models import TODAY, config
from tests.support import MakeImage

pytestmark = pytest.mark.usefixtures("shared_emulator")


OURS = """
[sources.bill]
title = "Our bill of October"
checked_on = 2026-11-20
[api]
count_tokens = "billed"
[[family]]
name = "ours"
match = ["team-*"]
[[family.rule]]
name = "ours-2026"
kind = "openai-tile"
params = { base = 7, tile = 11 }
source = "bill"
evidence = "measured"
[[family]]
name = "theirs"
match = ["other-*"]
like = "gemini-2.5"
[[family]]
name = "strict"
match = ["strict-*"]
count_tokens = "requested"
like = "gemini-2.5"
"""


def compared(**settings: Any) -> dict[str, ModelEstimate]:
    found = pipeline.estimate(count=10, sizes=["1024x1024"], **settings)
    return {model.name: model for model in found.models}


def facts(width: int, height: int, sent: tuple[int, int]) -> ImageFacts:
    return ImageFacts(
        width=width, height=height, sent_width=sent[0], sent_height=sent[1], sent_bytes=1, source_bytes=1, sha256=""
    )


@pytest.mark.parametrize("model", ["gpt-5.6", "gpt-6-sol"])
def test_an_image_that_would_be_refused_saves_nothing(model: str) -> None:
    """16 megapixels more than OpenAI answers have no bill: what sizing spares is counted from the largest that has."""
    family = next(one for one in families() if one.name == model.split("-sol", maxsplit=1)[0])
    asked = PromptShape(rule=rule_of(family, TODAY), detail="auto", text=TokenRange.exactly(46))
    histogram = SizeHistogram([asked])
    histogram.add((6000, 6000), 3)
    histogram.settle()
    (counted,) = histogram.counted
    assert counted.raw_tokens == counted.expected.total
    prepare = Preparer.build(config(request__model=model), TODAY)
    assert prepare.saved(facts(6000, 6000, asked.sent(6000, 6000))) == 0
    smaller = prepare.saved(facts(6000, 6000, (320, 320)))
    assert smaller == asked.image_tokens(6000, 6000).expected - asked.rule.tokens(320, 320).expected


def test_nobody_knows_what_an_unknown_model_saves() -> None:
    """Neither the estimate nor the run says that tokens are saved where the rule is a guess."""
    (model,) = pipeline.estimate(count=10, sizes=["6000x4000"], models="nobodys-model").models
    assert model.raw_input_tokens == model.input_tokens.expected
    assert not any("saves" in line for line in render.details(model))


def test_a_family_is_meant_for_names_that_nobody_claims() -> None:
    """Of several models --model-family tells what the unknown one is, and leaves gpt-4o what it is."""
    found = compared(models="gpt-4o,our-deployment", model_family="gpt-4o-mini")
    assert [model.family for model in found.values()] == ["gpt-4o", "gpt-4o-mini"]
    (alone,) = compared(models="gpt-4o", model_family="gpt-4o-mini").values()
    assert alone.family == "gpt-4o-mini"


def test_a_family_that_nobody_needs_is_said() -> None:
    """Where all names are known, a note says that the flag did nothing; one that does not exist is refused as ever."""
    found = pipeline.estimate(count=1, sizes=["9x9"], models="gpt-4o,o3", model_family="gpt-4o-mini")
    assert [model.family for model in found.models] == ["gpt-4o", "o-series"]
    said = "`model_family=gpt-4o-mini` is meant for models that no family claims, and there is none here"
    assert found.notes == (said,)
    with pytest.raises(InputError, match="no such family"):
        pipeline.estimate(count=1, sizes=["9x9"], models="gpt-4o,o3", model_family="gtp-4o")


def test_the_family_of_a_configuration_is_of_its_own_model(tmp_path: Path) -> None:
    """What a file says of its model does not make the others of --models that, and the file keeps it."""
    own = tmp_path / "own.toml"
    own.write_text('[request]\nmodel = "gpt-4o-ours"\nmodel_family = "claude-standard"\n')
    found = compared(models="o3,our-deployment", config=own)
    assert [model.family for model in found.values()] == ["o-series", "claude-standard"]
    beside = compared(models=["o3", str(own)], model_family="gpt-5")
    assert [model.family for model in beside.values()] == ["o-series", "claude-standard"]


def test_the_name_that_an_endpoint_has_for_a_model() -> None:
    """A deployment's unknown name does not hide the model's own, for estimate and run alike."""
    settings = load_config(None, {"request.model": "gpt-4o-mini", "endpoint.model": "deployment-7"}, environ={})
    assert Candidate(name="x", config=settings).family() == family_for(settings)
    assert Preparer.build(settings, TODAY).rule.tokens(512, 512).expected == 2833 + 5667


@pytest.mark.parametrize("models", [",", " , ", "", [""]])
def test_models_that_name_none(models: Any) -> None:
    """A list without a name is a mistake (an empty variable of a script), and no wish for the usual three."""
    with pytest.raises(InputError, match=r"`models=` '.*' names no model"):
        pipeline.estimate(count=1, sizes=["9x9"], models=models)


def test_what_counts_against_tokens_a_minute_stands_in_the_catalogue(tmp_path: Path) -> None:
    """`[api] count_tokens` of a file, or a family's own, decides about the time; the card says it."""
    own = tmp_path / "own.toml"
    own.write_text(OURS)
    told = {"tpm": 1000, "overrides": {"catalogue.file": own}, "output_tokens": 1}
    found = compared(models="team-a,other-a,strict-a,gpt-4o", **told)
    for name, counted in {"team-a": 1, "other-a": 1, "strict-a": 300, "gpt-4o": 300}.items():
        model = found[name]
        assert model.seconds is not None
        assert model.seconds.expected == pytest.approx(60 * (model.input_tokens.expected + 10 * counted) / 1000)
    (card,) = model_cards(config(catalogue__file=str(own)), TODAY, Asked("team-a", "team-a"))
    assert "a minute     the tokens that are billed count against its tokens a minute" in card.lines()
    own.write_text(OURS.replace('count_tokens = "billed"', 'count_tokens = "paid"'))
    with pytest.raises(InputError, match="count_tokens is 'paid'"):
        compared(models="team-a", **told)


@pytest.fixture
def photos(make_image: MakeImage, tmp_path: Path) -> Path:
    for number, (width, height) in enumerate([(320, 240), (1024, 1024), (900, 300), (64, 64)]):
        make_image(f"photos/{number}.png", width, height, seed=number)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("model", "more", "rule"),
    [
        ("team-a", {"overrides": {"catalogue.file": "own.toml"}}, "ours-2026"),
        ("gpt-4o", {"model_family": "claude-standard"}, "anthropic-standard-2026"),
        ("nobodys-model", {}, "unknown-2026-11"),
        ("qwen2.5-vl-7b", {"base_url": "https://api.siliconflow.cn/v1"}, "siliconflow-28-2025"),
        ("qwen2.5-vl-7b", {"overrides": {"catalogue.host": "siliconflow.cn"}}, "siliconflow-28-2025"),
    ],
)
def test_a_rehearsal_is_billed_as_the_run_would_be(
    model: str, more: dict[str, Any], rule: str, photos: Path, tmp_path: Path
) -> None:
    """By one's own family file, --model-family, bounds, and the rules of the host that the emulator stands in for."""
    Path("own.toml").write_text(OURS)
    (expected,) = pipeline.estimate(photos, model=model, **more).models
    pipeline.run(photos, out=tmp_path / "out", model=model, emulator=True, quiet=True, **more)
    rows = pipeline.read(tmp_path / "out")
    assert set(rows.token_rule) == {expected.token_rule} == {rule}
    assert rows.prompt_tokens.sum() == expected.input_tokens.expected
    assert (rows.prompt_tokens == rows.predicted_prompt_tokens).all()


def test_a_sample_is_rehearsed_by_the_rules_of_each_model(photos: Path) -> None:
    """Two models of one sample have an emulator each: what is billed is what was expected of both."""
    Path("own.toml").write_text(OURS)
    settings: dict[str, Any] = {"models": "team-a,nobodys-model", "overrides": {"catalogue.file": "own.toml"}}
    expected = pipeline.estimate(photos, **settings).models
    measured = pipeline.estimate(photos, sample=4, emulator=True, **settings).models
    assert [one.input_tokens.expected for one in measured] == [one.input_tokens.expected for one in expected]


def test_reasoning_that_was_not_seen(photos: Path) -> None:
    """No reasoning token in any answer: it is said so, and the only bound is that they would be part of the answers."""
    (model,) = pipeline.estimate(photos, model="gpt-4o", sample=3, emulator=True).models
    assert model.reasoning_tokens is not None
    assert (model.reasoning_tokens.expected, model.reasoning_tokens.high) == (0, model.output_tokens.high)
    assert "reasoning tokens: none in 3 answers" in render.details(model)


def test_the_name_of_a_deployment_is_not_that_of_others(tmp_path: Path) -> None:
    """Of --models each is estimated as itself, also where the configuration's endpoint has a name for its own model."""
    own = tmp_path / "own.toml"
    own.write_text('[request]\nmodel = "gpt-4o"\n[endpoint]\nmodel = "deployment-7"\n')
    found = compared(models="o3,gpt-5", config=own)
    assert [(model.model, model.family) for model in found.values()] == [("o3", "o-series"), ("gpt-5", "gpt-5")]


def test_a_sample_tells_what_an_image_has(photos: Path) -> None:
    """For an unknown model the bounds of an image come from its bills, too, and no longer from all rules."""
    (guessed,) = pipeline.estimate(photos, model="nobodys-model").models
    (model,) = pipeline.estimate(photos, model="nobodys-model", sample=4, emulator=True).models
    assert model.mean_tokens.expected == guessed.mean_tokens.expected  # the emulator bills what is expected
    assert (model.mean_tokens.high or 0) < (guessed.mean_tokens.high or 0)
    assert model.mean_tokens.low > guessed.mean_tokens.low


TWO = """
[request]
model = "gpt-3.5-turbo"
[request.extra]
ocr_model = "gpt-4o-mini"
[endpoint]
base_url = "https://api.302.ai/v1"
[[prices.models]]
model = "gpt-3.5-turbo*"
input_usd_per_mtok = "0.5"
output_usd_per_mtok = "1.5"
"""


@pytest.mark.parametrize(
    "text", [TWO, TWO.replace('turbo"', 'turbo-ocr"').replace('[request.extra]\nocr_model = "gpt-4o-mini"', "")]
)
def test_two_models_are_billed(text: str, tmp_path: Path) -> None:
    """The cost is the sum of both; of one whose price is unknown it is, with the way out; or one price of an image."""
    own = tmp_path / "own.toml"
    own.write_text(text.replace('model = "gpt-4o-mini"', 'model = "acme-vl"'))
    (model,) = compared(config=own, output_tokens=50).values()
    if "ocr_model" in text:
        assert (model.price, model.cost_usd) == (None, None)
        settings = load_config(
            own, {"catalogue.host": "api.302.ai", "endpoint.base_url": "http://127.0.0.1:1"}, environ={}
        )
        assert price_for(settings, settings.endpoint, emulated=True) is None
        assert any(note.startswith("acme-vl reads each image first, and no price") for note in model.notes)
        own.write_text(text)
        (model,) = compared(config=own, output_tokens=50).values()
    reading, cost = model.reading, model.cost_usd
    assert reading is not None
    assert cost is not None
    assert reading.model == "gpt-4o-mini"
    assert reading.input_tokens.expected == 10 * (2833 + 4 * 5667)
    assert (reading.output_tokens.expected, reading.output_tokens.high) == (3000, 163_840)
    main = model.input_tokens.expected * Decimal("0.0000005") + 500 * Decimal("0.0000015")
    read = reading.input_tokens.expected * Decimal("0.00000015") + 3000 * Decimal("0.0000006")
    assert cost.expected == main + read
    assert model.input_tokens.expected < 10 * (300 + 100)  # the reading and the prompt, and no image
    assert any(note.startswith("gpt-4o-mini reads the images first: about 255,010 tokens in") for note in model.notes)
    own.write_text(f'{text}usd_per_image = "0.001"\n')
    (model,) = compared(config=own, output_tokens=0).values()
    assert model.cost_usd is not None
    assert model.cost_usd.expected == 10 * Decimal("0.001") + model.input_tokens.expected * Decimal("0.0000005")


def test_answers_that_a_run_would_cut_off() -> None:
    """More tokens an answer than --max-tokens allows are taken at their word, and the contradiction is said."""
    (model,) = compared(models="gpt-4o", output_tokens=500).values()
    assert model.output_tokens.expected == 5000
    assert "answers of 500 tokens are cut off in a run at the 300 of `request.max_tokens`" in model.notes
    (fitting,) = compared(models="gpt-4o", output_tokens=300).values()
    assert fitting.notes == ()


def test_several_answers_an_image() -> None:
    """`n` choices have the stated tokens each, as they have the assumed ones."""
    (model,) = compared(models="gpt-4o", output_tokens=50, overrides={"request.extra": {"n": 3}}).values()
    assert model.output_tokens == Range(1500, 1500, 1500)


@pytest.mark.parametrize(
    ("more", "said"), [({"out": "out"}, "`out=` is for"), ({"emulator": True}, "`emulator=True` answers")]
)
def test_flags_of_a_sample_without_one(more: dict[str, Any], said: str) -> None:
    """They are not passed over in silence: `-o` is no place for the estimate, and nothing is rehearsed."""
    with pytest.raises(InputError, match=f"{said}.*`sample=N`"):
        pipeline.estimate(count=1, sizes=["9x9"], models="gpt-4o", **more)


def test_a_host_is_a_name() -> None:
    """Not an address; in any case."""
    assert load_config(None, {"catalogue.host": "SiliconFlow.cn"}, environ={}).rules_host == "siliconflow.cn"
    with pytest.raises(InputError, match="write it without https://"):
        load_config(None, {"catalogue.host": "https://siliconflow.cn"}, environ={})


PRICED = """
[request]
model = "acme-1"
[endpoint]
base_url = "https://api.acme.example/v1"
[[prices.models]]
model = "acme-*"
base_url = "https://api.acme.example/v1"
input_usd_per_mtok = "7"
output_usd_per_mtok = "8"
"""


def test_a_rehearsal_costs_what_the_endpoint_charges(photos: Path, tmp_path: Path) -> None:
    """One's own price for the configured address counts on the emulator that stands in for it, to the last digit."""
    own = tmp_path / "own.toml"
    own.write_text(PRICED)
    summary = pipeline.run(photos, out=tmp_path / "out", config=own, emulator=True, quiet=True)
    tokens_in, tokens_out = summary.prompt_tokens or 0, summary.completion_tokens or 0
    assert summary.cost_usd == (7 * tokens_in + 8 * tokens_out) * Decimal("0.000001")


def test_a_rehearsal_has_the_published_price_of_its_host() -> None:
    """Where the model is sold there; else that of where it is sold first, as ever."""
    settings = load_config(None, {"request.model": "openai/gpt-4o", "catalogue.host": "openrouter.ai"}, environ={})
    there = price_for(settings, settings.endpoint, emulated=True)
    assert there is not None
    assert "openrouter/" in there.source
    elsewhere = settings.model_copy(update={"catalogue": settings.catalogue.model_copy(update={"host": "x.example"})})
    first = price_for(elsewhere, elsewhere.endpoint, emulated=True)
    assert first is not None
    assert "openai/gpt-4o" in first.source


def test_a_check_sends_the_name_that_the_endpoint_has(endpoint: str) -> None:
    """As a run does: a deployment's name in place of the model's."""
    named = {"endpoint.model": "gpt-4o-mini"}
    assert pipeline.check(model="house", base_url=endpoint, overrides=named).model == "gpt-4o-mini"


def test_shapes_that_a_model_refuses() -> None:
    """Qwen takes no image more than 200 times as long as wide: it is said how many there are, and of no other model."""
    found = pipeline.estimate(count=5, sizes=["20000x100", "30000x60"], models="qwen3-vl-8b,gpt-4o").models
    said = (
        "2 of 5 images are more than 200 times as long as wide, which this model rejects; they are counted all the same"
    )
    assert [said in model.notes for model in found] == [True, False]


def test_a_rehearsal_of_several_endpoints_stands_for_the_first(photos: Path, tmp_path: Path) -> None:
    """Its own name for the model tells the family, of what is sent as of what is billed."""
    own = tmp_path / "own.toml"
    names = "".join(f'[[endpoints]]\nbase_url = "https://{host}.example"\nmodel = "o3"\n' for host in "ab")
    own.write_text(f'[request]\nmodel = "house"\n{names}')
    pipeline.run(photos, out=tmp_path / "out", config=own, emulator=True, quiet=True)
    rows = pipeline.read(tmp_path / "out")
    assert set(rows.model) == {"o3"}
    assert (rows.prompt_tokens == rows.predicted_prompt_tokens).all()
