"""What holds for every token rule, the sizes that pages name, and the traps that they hide."""

import sys
from dataclasses import MISSING, fields
from decimal import Decimal, localcontext
from math import floor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.tokens import (
    KINDS,
    MistralRows,
    OpenAIPatches,
    OpenAITiles,
    PatchLimits,
    SpanningRule,
    TokenRule,
    token_rule,
)
from tests.tokens.token_rules import combined, described, unknown

SIDES = st.one_of(st.integers(1, 9000), st.integers(1, 70_000))
PHOTOS = st.integers(200, 6000)
KNOWN = [*described().values(), *(rule for rule in combined().values() if isinstance(rule, SpanningRule))]
RULES = st.sampled_from(KNOWN)
DETAILS = st.sampled_from(["auto", "low", "high", "original", "media_resolution_low", "ultra_high"])


def parts(rule: TokenRule) -> tuple[TokenRule, ...]:
    return rule.rules if isinstance(rule, SpanningRule) else (rule,)


def refused(rule: TokenRule, width: int, height: int, detail: str) -> bool:
    """Whether an image gets no answer and no bill, so that there is none to compare."""
    patched = [part.limits(detail) for part in parts(rule) if isinstance(part, OpenAIPatches)]
    sizes = [(limits.refused_above or sys.maxsize, limits.resized(width, height)) for limits in patched]
    return any(-(-seen[0] // 32) * -(-seen[1] // 32) > most for most, seen in sizes)


@given(RULES, SIDES, SIDES, DETAILS)
@example(described()["gpt-6/openai-patch-gpt-6-2026-11"], 10, 100_000, "high")
@example(described()["gemini-3/gemini-grid-2026"], 1, 3000, "low")
@example(described()["gemini-2/gemini-crop-2025"], 2733, 2050, "auto")
def test_pre_sizing_does_not_change_the_price(rule: TokenRule, width: int, height: int, detail: str) -> None:
    """What is sent is never larger than the image, is billed like it, and leaves no more doubt than it."""
    sent_width, sent_height = rule.looked_at(width, height, detail)
    assert 1 <= sent_width <= width
    assert 1 <= sent_height <= height
    if refused(rule, width, height, detail):
        return
    before, after = rule.tokens(width, height, detail), rule.tokens(sent_width, sent_height, detail)
    assert after.expected == before.expected
    assert before.lower <= after.lower <= after.upper <= before.upper


@given(st.sampled_from(KNOWN), SIDES, SIDES, DETAILS)
@example(combined()["gpt-6"], 1425, 21_637, "auto")
@example(combined()["gpt-6"], 1, 3_000_000, "original")
@example(combined()["gpt-6"], 65_536, 500, "auto")
def test_nothing_is_sent_that_would_be_refused(rule: TokenRule, width: int, height: int, detail: str) -> None:
    """However large an image is, the size that is sent gets an answer; and sent once more it stays as it is."""
    sent = rule.looked_at(width, height, detail)
    assert not refused(rule, *sent, detail)
    if refused(rule, width, height, detail):
        assert rule.looked_at(*sent, detail) == sent


@pytest.mark.parametrize("family", ["gpt-5.6", "gpt-6"])
@pytest.mark.parametrize(
    ("size", "sent"),
    [
        ((6000, 6000), (5536, 5536)),
        ((7952, 5304), (6764, 4512)),
        ((1425, 21_637), (1408, 21_378)),
        ((5536, 5536), (5536, 5536)),
        ((6400, 4800), (6400, 4800)),
    ],
)
def test_the_largest_image_that_is_answered(family: str, size: tuple[int, int], sent: tuple[int, int]) -> None:
    """OpenAI refuses more than 30,000 patches: the page's and two reported sizes are sent as large as is allowed."""
    rule = combined()[family]
    for detail in ("auto", "original"):
        assert rule.looked_at(*size, detail) == sent
    columns, rows = -(-size[0] // 32), -(-size[1] // 32)
    assert rule.tokens(*size).expected == -(-columns * rows * 12 // 10)
    assert max(rule.looked_at(*size, "low")) == 512


@given(st.sampled_from([*KNOWN, unknown()]), SIDES, SIDES, DETAILS)
def test_a_range_holds_what_is_expected(rule: TokenRule, width: int, height: int, detail: str) -> None:
    """Every image costs something, and the bounds lie around it."""
    found = rule.tokens(width, height, detail)
    assert 0 <= found.lower <= found.expected <= found.upper
    assert found.expected >= 1


@given(RULES, SIDES, SIDES)
def test_a_detail_that_a_model_does_not_know_is_auto(rule: TokenRule, width: int, height: int) -> None:
    """Nothing fails for a word, and `auto` is the value that it is said to mean."""
    assert rule.tokens(width, height, "finest") == rule.tokens(width, height)
    assert rule.looked_at(width, height, "finest") == rule.looked_at(width, height, "auto")
    if not isinstance(rule, SpanningRule) and rule.details:
        assert rule.auto in rule.details
        assert rule.tokens(width, height, rule.auto).expected == rule.tokens(width, height).expected


@given(RULES, SIDES, SIDES)
def test_turning_an_image_changes_nothing(rule: TokenRule, width: int, height: int) -> None:
    """Portrait and landscape cost the same, but for Mistral's token at the end of each row."""
    if not any(isinstance(part, MistralRows) for part in parts(rule)):
        assert rule.tokens(width, height) == rule.tokens(height, width)


@given(PHOTOS, PHOTOS, st.integers(100, 12_000))
def test_patches_are_those_of_the_published_formula(width: int, height: int, budget: int) -> None:
    """The guide's scale factors, at 60 digits, give the patches that whole numbers give."""
    with localcontext() as context:
        context.prec = 60
        tiny = Decimal(10) ** -40  # a whole number must not come out as 9.99...
        scale = (Decimal(32 * 32 * budget) / (width * height)).sqrt()
        columns, rows = width * scale / 32, height * scale / 32
        if -(-width // 32) * -(-height // 32) > budget and min(columns, rows) >= 1:
            scale *= min(floor(columns + tiny) / columns, floor(rows + tiny) / rows)
            published = floor(width * scale + tiny), floor(height * scale + tiny)
        else:
            published = PatchLimits(budget=budget).resized(width, height)
    assert PatchLimits(budget=budget).resized(width, height) == published


@given(SIDES, SIDES, st.integers(256, 8192), st.integers(1, 12_000))
def test_patches_keep_their_limits(width: int, height: int, max_side: int, budget: int) -> None:
    """However thin an image is, it fits; and what fits is left alone."""
    limits = PatchLimits(max_side, budget)
    seen = limits.resized(width, height)
    assert max(seen) <= max_side
    assert -(-seen[0] // 32) * -(-seen[1] // 32) <= budget
    assert limits.resized(*seen) == seen


@pytest.mark.parametrize(
    ("rule", "size", "seen"),
    [
        ("claude-standard/anthropic-standard-2026", (1920, 1080), (1456, 819)),
        ("claude-standard/anthropic-standard-2026", (2000, 1500), (1270, 952)),
        ("claude-standard/anthropic-standard-2026", (2550, 3300), (952, 1232)),
        ("claude-high/anthropic-high-2026", (2550, 3300), (1688, 2184)),
        ("claude-high/anthropic-high-2026", (3840, 2160), (2576, 1449)),
        ("gpt-4.1-mini/openai-patch-2026-08", (1800, 2400), (1536, 2048)),
        ("gpt-4.1-mini/openai-patch-2025", (1800, 2400), (1056, 1408)),
        ("gpt-5.4/openai-patch-2026-08", (2048, 2048), (1600, 1600)),
        ("gpt-4o/openai-tile-2026-08", (4032, 3024), (1024, 768)),
        ("gemini-2.5/gemini-crop-2.5-2025", (4032, 3024), (1536, 1152)),
        ("pixtral-12b/mistral-pixtral-2024", (2133, 3422), (638, 1024)),
        ("qwen2.5-vl/qwen-28-2025", (9000, 3000), (6188, 2044)),
        ("llama-4/llama-4-2025", (4032, 3024), (1344, 1008)),
        ("grok/grok-bound-2026", (4032, 3024), (2688, 2016)),
    ],
)
def test_sizes_that_models_look_at(rule: str, size: tuple[int, int], seen: tuple[int, int]) -> None:
    """The sizes that pages and measurements name, and one for each further rule."""
    assert described()[rule].looked_at(*size) == seen


@pytest.mark.parametrize(
    ("rule", "size", "detail", "tokens"),
    [
        ("claude-standard/anthropic-standard-2026", (1092, 1092), "auto", 1521),
        ("claude-high/anthropic-high-2026", (2000, 1500), "auto", 3888),
        ("claude-high/anthropic-high-2026", (3840, 2160), "auto", 4784),
        ("claude-3/anthropic-area-2025", (200, 200), "auto", 54),
        ("claude-3/anthropic-area-2025", (1092, 1092), "auto", 1590),
        ("gemini-2.5/gemini-crop-2.5-2025", (960, 540), "auto", 1548),
        ("gemini-2.5/gemini-crop-2.5-2025", (384, 384), "auto", 258),
        ("gpt-5.4/openai-patch-2026-08", (2048, 2048), "high", 3000),
        ("gpt-5.6/openai-patch-2026-08", (6000, 6000), "high", 3000),
        ("gpt-5.6/openai-patch-2026-08", (6000, 6000), "original", 42_413),
        ("qwen2.5-vl/qwen-28-2025", (1280, 720), "auto", 1196),
        ("qwen2.5-vl/qwen-28-2025", (2560, 1440), "auto", 4641),
        ("qwen2.5-vl/siliconflow-28-2025", (3172, 4096), "high", 16_240),
        ("qwen2.5-vl/siliconflow-28-2025", (224, 448), "high", 128),
        ("qwen2.5-vl/siliconflow-28-2025", (224, 448), "auto", 256),
        ("qwen-vl-hosted/dashscope-32-1280-2026", (2972, 1180), "auto", 1234),
        ("pixtral-12b/mistral-pixtral-2024", (200, 311), "auto", 280),
    ],
)
def test_further_published_counts(rule: str, size: tuple[int, int], detail: str, tokens: int) -> None:
    """Counts that pages and bills give beside the vectors."""
    assert described()[rule].tokens(*size, detail).expected == tokens


def test_low_can_cost_more_than_high() -> None:
    """gpt-5.4's `low` has the larger budget: 4,916 tokens where `high` has 3,000."""
    rule = described()["gpt-5.4/openai-patch-2026-08"]
    assert [rule.tokens(2048, 2048, detail).expected for detail in ("low", "high")] == [4916, 3000]


@pytest.mark.parametrize(("family", "auto"), [("gpt-5.5", 11_868), ("gpt-5.6", 14_364), ("gpt-6", 14_364)])
def test_auto_can_mean_original(family: str, auto: int) -> None:
    """On these `auto` is `original`: a photo of 12 megapixels costs four to five times what `high` costs."""
    rule = combined()[family]
    assert rule.auto == "original"
    assert rule.tokens(4032, 3024) == rule.tokens(4032, 3024, "original")
    assert rule.tokens(4032, 3024).expected == auto
    assert rule.tokens(4032, 3024, "high").expected < 3000


def test_two_rules_make_a_range() -> None:
    """The newest rule is expected, the older ones lie in the range, the name says all, nothing is lost to any."""
    rule = combined()["gpt-4.1-mini"]
    found = rule.tokens(1800, 2400)
    assert (found.expected, found.upper, found.lower) == (4977, 4978, 2352)
    assert rule.name == "openai-patch-2026-08 | openai-patch-2026-spring | openai-patch-2025"
    assert rule.looked_at(1800, 2400) == (1536, 2048)
    assert combined()["gpt-5.4-mini"].details == ("low", "high", "original")


def test_gemini_may_ignore_the_detail() -> None:
    """Google's own field gives one figure; `detail` spans it and the default, and loses nothing of either."""
    rule = combined()["gemini-3"]
    told, asked = rule.tokens(4, 3, "media_resolution_low"), rule.tokens(4, 3, "low")
    assert (told.expected, told.upper, told.lower) == (266, 280, 266)
    assert (asked.expected, asked.upper, asked.lower) == (266, 1120, 266)
    assert rule.looked_at(4032, 3024, "low") == rule.looked_at(4032, 3024)
    assert rule.looked_at(4032, 3024, "media_resolution_low") == (912, 684)
    older = combined()["gemini-2.5"]
    assert older.tokens(4032, 3024, "media_resolution_low").upper == 64
    assert older.tokens(4032, 3024, "low").upper == 6192


def test_pre_sizing_takes_the_doubt_out_of_gemini_crops() -> None:
    """As it is, a photo is 4 crops by one page and 24 by an older one; at the size that is sent, both say 4."""
    rule = combined()["gemini-2"]
    as_it_is, sent = rule.tokens(4032, 3024), rule.tokens(*rule.looked_at(4032, 3024))
    assert (as_it_is.expected, as_it_is.upper) == (1032, 6192)
    assert (sent.expected, sent.upper, sent.lower) == (1032, 1032, 1032)


@given(PHOTOS, PHOTOS, DETAILS)
def test_an_unknown_model_is_bounded_by_the_known_ones(width: int, height: int, detail: str) -> None:
    """Whatever rule such a model turns out to have, its bill lies in the range."""
    rule = unknown()
    found = rule.tokens(width, height, detail)
    for known in rule.rules:
        assert found.lower <= known.tokens(width, height, detail).expected <= found.upper
    assert max(rule.looked_at(width, height, detail)) <= 2048


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("tiles", {}, "no kind 'tiles'"),
        ("openai-tile", {"base": 85}, "needs tile"),
        ("openai-tile", {"base": 85, "tile": 170, "title": 1}, "no parameter 'title'"),
        ("openai-tile", {"base": "85", "tile": 170}, "base is '85', not a whole number"),
        ("openai-tile", {"base": True, "tile": 170}, "base is True, not a whole number"),
        ("openai-tile", {"base": 85, "tile": 170, "high": {"max_short_side": 768}}, "high needs max_side"),
        ("openai-patch", {"multiplier": -1.2, "high": {}}, "multiplier is -1.2"),
        ("openai-patch", {"multiplier": "much", "high": {}}, "multiplier is 'much'"),
        ("openai-patch", {"multiplier": 1.2, "high": 2048}, "high is 2048, not a table"),
        ("openai-patch", {"multiplier": 1.2, "high": {"size": 1}}, "not a table of budget, max_side, refused_above"),
        ("openai-patch", {"multiplier": 1.2, "high": {"refused_above": 0}}, "high.refused_above is 0"),
        ("openai-patch", {"multiplier": "1/0", "high": {}}, "multiplier is '1/0'"),
        ("gemini-grid", {"high": 0}, "high is 0"),
        ("qwen", {"factor": 28, "low_side": 0}, "low_side is 0"),
        ("openai-patch", {"multiplier": 1.2, "high": {}, "auto": "original"}, "auto is 'original'; known: high"),
        ("openai-patch", {"multiplier": 1.2, "high": {}, "auto": 1}, "auto is 1, not a str"),
        ("qwen", {"factor": 0}, "factor is 0"),
        ("qwen", {"factor": 28, "round_up": "yes"}, "round_up is 'yes', not a bool"),
    ],
)
def test_a_rule_that_cannot_be(kind: str, params: dict[str, object], message: str) -> None:
    """A description that makes no rule says which rule, which parameter and what would do."""
    with pytest.raises(ValueError, match="token rule 'mine'") as caught:
        token_rule(kind, "mine", params)
    assert message in str(caught.value)


NUMBERS = st.sampled_from(
    [-1, 0, 1, 2, 7, 28, 512, 2048, 100_000, 10**21, 0.5, 1.2, 1e-9, 1e30, float("nan"), "1", True]
)
PARAMETERS = st.one_of(
    NUMBERS, st.dictionaries(st.sampled_from(["max_side", "budget", "refused_above", "max_short_side"]), NUMBERS)
)


def built(kind: str, params: dict[str, object]) -> TokenRule | str:
    """The rule, or why there is none."""
    try:
        return token_rule(kind, "mine", params)
    except ValueError as error:
        return str(error)


@given(st.sampled_from(sorted(KINDS)), st.data(), SIDES, SIDES, DETAILS)
def test_whatever_is_described_has_an_answer_or_a_reason(
    kind: str, data: st.DataObject, width: int, height: int, detail: str
) -> None:
    """Any parameters are refused in a sentence, or make a rule whose answers are within their bounds."""
    known = {field.name: field for field in fields(KINDS[kind]) if field.name != "name"}  # type: ignore[arg-type] # all are dataclasses
    needed = {name: PARAMETERS for name, field in known.items() if field.default is MISSING}
    others = {name: PARAMETERS for name in known if name not in {*needed, "max_tiles"}}
    params = data.draw(st.fixed_dictionaries(needed, optional=others))
    rule = built(kind, params | ({"max_tiles": 7} if "max_tiles" in needed else {}))
    if isinstance(rule, str):
        assert rule.startswith("token rule 'mine': ")
        return
    found, sent = rule.tokens(width, height, detail), rule.looked_at(width, height, detail)
    assert 0 <= found.lower <= found.expected <= found.upper
    assert 1 <= sent[0] <= width
    assert 1 <= sent[1] <= height


def test_a_multiplier_is_the_number_that_is_written() -> None:
    """1.62 x 100 is 162 tokens, not 163 because of a binary fraction."""
    rule = token_rule("openai-patch", "mine", {"multiplier": 1.62, "high": {}})
    assert isinstance(rule, OpenAIPatches)
    assert rule.tokens(320, 320).expected == 162
    assert isinstance(token_rule("openai-tile", "mine", {"base": 85, "tile": 170}), OpenAITiles)
