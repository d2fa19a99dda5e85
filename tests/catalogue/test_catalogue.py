"""What is known of models."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.catalogue import families, family_of, host_of, price_of, rule_of, unknown_rule
from pipeline.errors import InputError

TODAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("model", "base", "field"),
    [
        ("gpt-4o", 85, "max_tokens"),
        ("openai/gpt-4o-2024-08-06", 85, "max_tokens"),
        ("gpt-4o-mini", 2833, "max_tokens"),
        ("GPT-4.1", 85, "max_tokens"),
        ("gpt-5", 70, "max_completion_tokens"),
        ("gpt-5.1", 70, "max_completion_tokens"),
        ("o3", 75, "max_completion_tokens"),
    ],
)
def test_tile_models(model: str, base: int, field: str) -> None:
    """Names with a gateway's prefix, a date or capitals find their family, its rule and its parameter."""
    family = family_of(model)
    assert family is not None
    assert (rule_of(family, TODAY).tokens(512, 512, "low").expected, family.max_tokens_field) == (base, field)


@pytest.mark.parametrize("model", ["gpt-5.4-mini", "gpt-4.1-mini", "o4-mini"])
def test_patch_models_are_not_billed_by_tiles(model: str) -> None:
    """A model that is billed by patches is not predicted by tiles."""
    family = family_of(model)
    assert family is not None
    assert "patch" in rule_of(family, TODAY).name


def test_a_model_nobody_described() -> None:
    """An unknown name is no error."""
    assert family_of("llava:13b") is None


def test_every_family_has_source_and_date() -> None:
    """Facts without a source are not facts."""
    for family in families():
        assert family.source
        assert family.checked_on.year >= 2026


def test_prices() -> None:
    """A provider that publishes prices has them; one that does not, or a server of one's own, has none."""
    price = price_of("gpt-4o", "https://api.openai.com/v1")
    assert price is not None
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (Decimal("2.5"), Decimal(10))
    assert price_of("gpt-4o", "https://api.aimlapi.com/v1") is None
    assert price_of("gpt-4o", "http://127.0.0.1:8000/v1") is None
    assert price_of("gpt-4o", None) == price


@pytest.mark.parametrize(
    ("model", "day", "host", "name"),
    [
        ("gpt-4o", TODAY, "", "openai-tile-2026-08"),
        ("gpt-5.2", TODAY, "", "openai-patch-2026-08 | openai-patch-2026-spring"),
        ("gpt-4.1-mini", date(2026, 5, 1), "", "openai-patch-2026-spring | openai-patch-2025"),
        ("claude-sonnet-4-5", date(2025, 12, 31), "", "anthropic-standard-2026 | anthropic-area-2025"),
        ("claude-3-5-sonnet-latest", TODAY, "", "anthropic-standard-2026"),
        ("qwen2.5-vl-72b-instruct", TODAY, "", "qwen-28-2025"),
        ("qwen2.5-vl-72b-instruct", TODAY, "api.siliconflow.cn", "siliconflow-28-2025"),
        (
            "qwen2.5-vl-72b-instruct",
            TODAY,
            "dashscope-intl.aliyuncs.com",
            "dashscope-28-1280-2026 | dashscope-28-16384-2026",
        ),
        ("gpt-5.7", TODAY, "", "unknown-2026-11"),
        ("llava:13b", TODAY, "", "unknown-2026-11"),
    ],
)
def test_which_rule_counts(model: str, day: date, host: str, name: str) -> None:
    """The day and the host choose among a family's rules; a model without any has the bounds of all."""
    assert rule_of(family_of(model), day, host).name == name


def test_limits_and_batches() -> None:
    """What a vendor accepts, and what a host of other people's models accepts of them."""
    family = family_of("claude-opus-4-7")
    assert family is not None
    assert (family.limits.max_side, family.json_schema) == (8000, "ignored")
    assert family.batch is not None
    assert family.batch.discount == Decimal("0.5")
    host = host_of("acme.openai.azure.com")
    assert host is not None
    assert host.limits.max_images == 10
    assert host_of("api.openai.com") is None
    assert unknown_rule().max_side == 2048


OWN = """
checked_on = 2026-11-20
[sources.bill]
title = "Our bill"
checked_on = 2026-10-31
[[family]]
name = "ours"
match = ["GPT-4o", "my-deployment"]
[[family.rule]]
name = "ours-2026"
kind = "openai-tile"
params = { base = 1, tile = 2 }
source = "bill"
"""


def own_file(text: str = OWN) -> Path:
    file = Path("models.toml")
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_of_ones_own() -> None:
    """A user's families count before ours, and a file that has changed is read anew."""
    found = family_of("openai/gpt-4o", own_file())
    assert rule_of(found, TODAY).tokens(512, 512).expected == 3
    assert found is family_of("my-deployment", own_file())
    assert rule_of(family_of("gpt-4o", own_file(OWN.replace("base = 1", "base = 2"))), TODAY).tokens(9, 9).expected == 4


def test_what_a_file_of_ones_own_may_leave_out() -> None:
    """Its own date is else that of its newest source, and a bill has no address."""
    family = family_of("my-deployment", own_file(OWN.replace("checked_on = 2026-11-20\n", "")))
    assert family is not None
    assert family.checked_on == date(2026, 10, 31)
    assert family.rules[0].source.url == ""


def test_models_that_are_like_others() -> None:
    """A private name has the rules, limits and fields of a family that ships with the package; no date is needed."""
    text = '[[family]]\nname = "{}"\nmatch = ["{}"]\nlike = "{}"\n'
    file = own_file(
        text.format("team-a", "team-a-*", "gpt-5.4")
        + text.format("team-b", "*vision", "Qwen/Qwen2.5-VL-7B-Instruct")
        + 'max_tokens_field = "max_completion_tokens"\n'
    )
    first, second = family_of("team-a-7", file), family_of("our-vision", file)
    like = family_of("gpt-5.4")
    assert first is not None
    assert second is not None
    assert like is not None
    assert (first.name, first.rules, first.limits, first.batch) == ("team-a", like.rules, like.limits, like.batch)
    assert (first.max_tokens_field, second.max_tokens_field) == ("max_completion_tokens", "max_completion_tokens")
    assert rule_of(second, TODAY).name == "qwen-28-2025"
    assert family_of("gpt-5.4", file) is like


def test_names_of_a_gateway_and_of_a_host() -> None:
    """A pattern with a slash means the whole name, one without any gateway's; a host may be written in capitals."""
    text = OWN.replace('"GPT-4o", "my-deployment"', '"Acme/vision-*", "gpt-4o"')
    file = own_file(text.replace('kind = "openai-tile"', 'kind = "openai-tile"\nhosts = ["API.Acme.example"]'))
    found = family_of("acme/Vision-2", file)
    assert found is not None
    assert found is family_of("openai/gpt-4o", file)
    assert family_of("other/vision-2", file) is None
    assert rule_of(found, TODAY, "eu.api.acme.example").name == "ours-2026"
    assert rule_of(found, TODAY, "api.openai.com").name == unknown_rule().name


WRONG = [
    ('name = "ours"', 'name = "ours"\nlike = "gpt-4o"', "family 'ours': it has the rules of what it is like"),
    (
        OWN,
        '[[family]]\nname = "ours"\nmatch = ["x"]\nlike = "gtp-4o"',
        "family 'ours': like is 'gtp-4o': no such family; did you mean gpt-4o",
    ),
    ("tile = 2", "tiles = 2", "family 'ours': token rule 'ours-2026': openai-tile has no parameter 'tiles'"),
    ("base = 1", "base = inf", "token rule 'ours-2026': base is inf, not a whole number"),
    (
        '"openai-tile"\nparams = { base = 1, tile = 2 }',
        '"openai-patch"\nparams = { multiplier = nan, high = {} }',
        "nan",
    ),
    ("params = { base = 1, tile = 2 }", "params = 5", "family 'ours': rule 'ours-2026': params is 5"),
    ("params = { base = 1, tile = 2 }\n", "", "token rule 'ours-2026': openai-tile needs base, tile"),
    (
        'source = "bill"',
        'source = "none"',
        "family 'ours': rule 'ours-2026': 'none' names no source of the file; known: b",
    ),
    ('source = "bill"\n', "", "family 'ours': rule 'ours-2026': 'source' is missing"),
    (
        "match =",
        "matches =",
        "'match' is missing; family 'ours': unknown key 'matches'; known: count_tokens, like, m",
    ),
    ('["GPT-4o", "my-deployment"]', '"gpt-4o"', "family 'ours': match is 'gpt-4o': it should be a valid list"),
    ('["GPT-4o", "my-deployment"]', "[5]", "family 'ours': match 1 is 5: it should be a valid string"),
    ('["GPT-4o", "my-deployment"]', '[""]', "family 'ours': match 1 is ''"),
    ('["GPT-4o", "my-deployment"]', "[]", "family 'ours': match is []"),
    ('kind = "openai-tile"\n', "", "family 'ours': rule 'ours-2026': 'kind' is missing"),
    ('kind = "openai-tile"', 'kind = "tiles"', "no kind 'tiles'; known: openai-tile"),
    ('kind = "openai-tile"', 'kind = "openai-tile"\nvalid_from = "2026"', "valid_from is '2026': "),
    ('kind = "openai-tile"', 'kind = "openai-tile"\nvalid_from = "2026"', "without quotes: 2026-11-20"),
    (
        'kind = "openai-tile"',
        'kind = "openai-tile"\nvalid_from = 2026-02-01\nvalid_to = 2026-01-01',
        "valid_to 2026-01-01 is not after",
    ),
    ('kind = "openai-tile"', 'kind = "openai-tile"\nhosts = "x.example"', "rule 'ours-2026': hosts is 'x.example'"),
    (
        'kind = "openai-tile"',
        'kind = "openai-tile"\nhosts = ["https://x.example/v1"]',
        "hosts 1 is 'https://x.ex",
    ),
    ('kind = "openai-tile"', 'kind = "openai-tile"\nevidence = "sure"', "evidence is 'sure': it should be 'published'"),
    ('name = "ours"', 'name = "ours"\nmax_tokens_field = "tokens"', "max_tokens_field is 'tokens': it should be"),
    ('name = "ours"', 'name = ["ours"]', "family 1: name is ['ours']: it should be a valid string"),
    ("[[family]]", "[family]", "write [[family]] in two brackets"),
    ("[[family.rule]]", "[family.rule]", "family 'ours': write [[family.rule]] in two brackets"),
    (
        "[sources.bill]\n",
        "[sources]\n",
        "sources: title is 'Our bill': it should be a table; sources: checked_on",
    ),
    ("params = { base = 1, tile = 2 }", "params = 5", "params is 5: it should be a table"),
    ('["GPT-4o", "my-deployment"]', '"{}"'.format("x" * 99), "match is '" + "x" * 59 + "...: it should"),
    ("2026-10-31", '"October"', "sources: bill: checked_on is 'October': "),
    ("2026-10-31", "2026-10-31\n[limits]\nmax_pictures = 3", "limits: unknown key 'max_pictures'; known: evidence, "),
    ("2026-10-31", '2026-10-31\n[limits]\nmax_images = "3"', "limits: max_images is '3'"),
    ("2026-10-31", "2026-10-31\n[limits]\nmax_images = 0", "limits: max_images is 0: it should be greater than 0"),
    ("2026-10-31", '2026-10-31\n[limits]\nsource = "none"', "'none' names no source of the file"),
    ("2026-10-31", "2026-10-31\n[batch]\ndiscount = 50", "batch: discount is 50: it should be less than or equal to 1"),
    ("2026-10-31", "2026-10-31\n[batch]\nhours = 24", "batch: 'discount' is missing"),
    ("2026-10-31", "2026-10-31\n[api]\njson_schema = true", "api: json_schema is True: it should be 'strict'"),
    ("2026-10-31", "2026-10-31\n[apis]\nx = 1", "unknown key 'apis'; known: api, batch, "),
    (OWN, OWN + OWN.partition("2026-10-31")[2], "family 'ours' is declared twice"),
    (OWN, OWN.partition("[[family]]")[0], "no family: begin one with [[family]]"),
    (OWN, "family = []", "no family: begin one with [[family]]"),
    (OWN, "family = [", "not valid TOML"),
    (OWN, 'title = "gr\udcfcn"', "the file is not UTF-8"),
    (OWN, '[[family]]\nname = "bare"\nmatch = ["bare"]', "'checked_on' is missing: the day"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG, ids=[said[:40] for *_, said in WRONG])
def test_a_mistake_in_a_file_of_ones_own(old: str, new: str, said: str) -> None:
    """It is one line that names the file, the family and the key, and never a bug of ours."""
    assert old in OWN
    Path("models.toml").write_bytes(OWN.replace(old, new).encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"^models\.toml: ") as caught:
        family_of("openai/gpt-4o", Path("models.toml"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_ones_own_that_is_not_there() -> None:
    """Neither is a file that is missing, nor a folder, a bug of ours."""
    for name, said in (("none.toml", "no such file"), (".", "Is a directory")):
        with pytest.raises(InputError, match=said):
            family_of("gpt-4o", Path(name))
