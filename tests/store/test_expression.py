"""The expression language of `where`: what it means, what it refuses, and that no text does anything else."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.store.filters import to_arrow
from pipeline.store.schemas import schema

LABELS = pa.struct([("mood", pa.string()), ("people", pa.int64()), ("indoors", pa.bool_())])
COLUMNS = pa.schema([*schema(), pa.field("labels", LABELS)])
TIMES = [datetime(2026, 11, 1, tzinfo=UTC), None, datetime(2026, 11, 3, 12, tzinfo=UTC), None]
ROWS = pa.table(
    {
        "id": ["a.jpg", "b_1.jpg", "c%.png", "it's"],
        "caption": ["A quay.", None, "50 % off", ""],
        "cost_usd": pa.array([Decimal("0.001"), None, Decimal("2.5"), Decimal(0)], pa.decimal128(18, 9)),
        "prompt_tokens": [100, None, 300, 0],
        "predicted_prompt_tokens": [100, 200, None, 1],
        "latency_s": [0.5, None, 2.0, 1.0],
        "answered_at": pa.array(TIMES, pa.timestamp("us", tz="UTC")),
        "flags": pa.array([["x"], None, [], []], pa.list_(pa.string())),
        "labels": pa.array(
            [{"mood": "calm", "people": 2, "indoors": True}, None, {"mood": None, "people": 0, "indoors": False}, {}],
            LABELS,
        ),
    }
)


def found(where: str) -> str:
    """The first letters of the ids of the rows that pass."""
    return "".join(name[0] for name in ROWS.filter(to_arrow(where, ROWS.schema))["id"].to_pylist())


CASES = [
    ("id = 'a.jpg'", "a"),
    ("'a.jpg' = id", "a"),
    ("id == 'it''s'", "i"),
    ("id <> 'a.jpg' and id != 'it''s'", "bc"),
    ("prompt_tokens > 0", "ac"),
    ("prompt_tokens >= 1e2 AND prompt_tokens < 300.5", "ac"),
    ("100 < prompt_tokens", "c"),
    ("prompt_tokens = 9223372036854775807 OR prompt_tokens = 999999999999999999", ""),
    ("cost_usd = 0.001", "a"),
    ("cost_usd > 1", "c"),
    ("cost_usd > .0005 and cost_usd <= 2.5", "ac"),
    ("cost_usd > -0.000000000000000001", "aci"),
    ("latency_s < 1.5", "ai"),
    ("answered_at > '2026-11-02'", "c"),
    ("answered_at = '2026-11-03T13:00:00+01:00'", "c"),
    ("prompt_tokens = predicted_prompt_tokens", "a"),
    ("prompt_tokens != predicted_prompt_tokens", "i"),
    ("caption IS NULL", "b"),
    ("caption is not null", "aci"),
    ("flags IS NULL", "b"),
    ("caption = ''", "i"),
    ("id LIKE '%.jpg'", "ab"),
    ("id LIKE 'b_1.jpg'", "b"),
    ("id NOT LIKE '%.jpg'", "ci"),
    (r"id LIKE 'c\%%'", "c"),
    ("id IN ('a.jpg', 'c%.png', 'nothing')", "ac"),
    ("id NOT IN ('a.jpg')", "bci"),
    ("labels.mood = 'calm'", "a"),
    ('labels."mood" IS NULL', "bci"),
    ("labels.indoors = TRUE", "a"),
    ("labels.indoors = false", "c"),
    ("labels.people IN (0, 2) AND labels.people != 2", "c"),
    ("(id = 'a.jpg' OR id = 'it''s') AND prompt_tokens = 0", "i"),
    ("id = 'a.jpg' OR id = 'it''s' AND prompt_tokens = 5", "a"),
    ("not not id = 'a.jpg'", "a"),
]
NULL_CASES = [
    ("prompt_tokens > 50", "ac"),
    ("NOT prompt_tokens > 50", "i"),  # not b: its count is unknown
    ("prompt_tokens > 50 OR prompt_tokens <= 50", "aci"),
    ("prompt_tokens > 50 OR id = 'b_1.jpg'", "abc"),  # unknown OR true is true
    ("NOT (prompt_tokens > 50 AND id = 'a.jpg')", "bci"),  # unknown AND false is false
    ("prompt_tokens IN (100)", "a"),
    ("NOT prompt_tokens IN (100)", "ci"),
    ("prompt_tokens NOT IN (100)", "ci"),
    ("NOT caption LIKE 'A%'", "ci"),
    ("NOT labels.people = 2", "c"),
    ("NOT (prompt_tokens IS NULL)", "aci"),
]


@pytest.mark.parametrize(("where", "expected"), CASES)
def test_what_an_expression_means(where: str, expected: str) -> None:
    """Proves the meaning of every comparison, precedence, quoting, and types of literals."""
    assert found(where) == expected


@pytest.mark.parametrize(("where", "expected"), NULL_CASES)
def test_null_is_neither_true_nor_false(where: str, expected: str) -> None:
    """Proves SQL's three-valued logic: a row passes where the expression is true, and NOT of unknown is unknown."""
    assert found(where) == expected


REFUSED = [
    ("", "character 1 .the end"),
    ("id", "at character 3 .the end"),
    ("id =", "at character 5 .the end"),
    ("id = 'a", "a text that does not end at character 6"),
    ("id = 'a' garbage", "AND, OR or the end is expected at character 10 .'garbage'"),
    ("id = 'a' AND", "at character 13"),
    ("(id = 'a'", r"\) is expected at character 10"),
    ("id = NULL", "IS NULL is expected at character 6"),
    ("id IN ()", "at character 8"),
    ("id IN ('a', NULL)", "IS NULL is expected"),
    ("id LIKE 5", "LIKE compares text"),
    ("prompt_tokens LIKE 'a'", "LIKE compares text; prompt_tokens is int64"),
    ("id = 5", "id .string. is compared with a 'text' in single quotes at character 6"),
    ("prompt_tokens = '5'", "is compared with a number"),
    ("labels.indoors = 1", "is compared with TRUE or FALSE"),
    ("answered_at > 'yesterday'", "ISO 8601"),
    ("flags = 'x'", "only IS NULL applies"),
    ("id = prompt_tokens", "cannot be compared"),
    ("1 = 1", "one side of a comparison has to be a column at character 1"),
    ("'a' IN ('a')", "a comparison"),
    ("colour = 'red'", "no column 'colour'; known: id, caption"),
    ('id = "red"', "no column 'red'; known: .*; a text stands in single quotes: 'red'"),
    ("labels.colour = 'red'", "no field 'colour' in labels; known: mood, people, indoors"),
    ("id.x = 'a'", "no field 'x' in id; known: none"),
    ("id ; drop", "an unexpected character at character 4"),
    ("__import__('os').system('true')", "at character"),
    ("prompt_tokens > 1e99", "more than 18 digits"),
    ("(" * 60 + "id = 'a'" + ")" * 60, "more than 50 levels"),
    ("NOT " * 60 + "id = 'a'", "more than 50 levels"),
    ("id = '" + "x" * 100_001 + "'", "has at most 100,000"),
    ("id = '\ud800'", "not UTF-8"),
]


@pytest.mark.parametrize(("where", "why"), REFUSED)
def test_what_is_refused_and_why(where: str, why: str) -> None:
    """Proves that every mistake ends in InputError, with the position and what is expected or known."""
    with pytest.raises(InputError, match=why):
        found(where)


def test_a_long_list_and_a_long_chain_are_read() -> None:
    """Proves that thousands of values or terms neither exhaust the stack nor change the meaning."""
    numbers = ", ".join(map(str, range(5_000)))
    assert found(f"prompt_tokens IN ({numbers})") == "aci"
    assert found(" OR ".join(f"prompt_tokens = {number}" for number in range(100, 3_000))) == "ac"


WORDS = st.sampled_from(
    ["id", "caption", "labels", ".", "mood", "cost_usd", "=", "<", ">=", "!=", "(", ")", ",", "'a'", "'%", "5", "1.5",
     "AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL", "TRUE", '"x"', "'2026-01-01'", "answered_at", "-", "--", "\\"]
)  # fmt: skip


@given(st.text(max_size=40) | st.lists(WORDS, max_size=12).map(" ".join))
def test_no_text_raises_anything_else(where: str) -> None:
    """Proves that whatever a user types is an expression, or an InputError: nothing is ever evaluated."""
    try:
        expression = to_arrow(where, COLUMNS)
    except InputError:
        return
    assert pa.Table.from_batches([], schema=COLUMNS).filter(expression).num_rows == 0


VALUES = st.none() | st.integers(-3, 3)
SIMPLE = st.builds(
    lambda sign, number: (f"prompt_tokens {sign} {number}", sign, number),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.integers(-3, 3),
)
_TRUTH = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@given(st.lists(VALUES, min_size=1, max_size=6), st.lists(SIMPLE, min_size=1, max_size=4), st.booleans())
def test_chains_follow_the_truth_tables(
    values: list[int | None], terms: list[tuple[str, str, int]], has_not: bool,  # noqa: FBT001 - Hypothesis draws it
) -> None:  # fmt: skip
    """Proves AND and NOT against the truth tables of three values, for any values and any comparisons."""
    where = " AND ".join(text for text, _, _ in terms)
    where = f"NOT ({where})" if has_not else where
    table = pa.table({"at": list(range(len(values))), "prompt_tokens": pa.array(values, pa.int64())})
    passed = table.filter(to_arrow(where, table.schema))["at"].to_pylist()
    expected = []
    for at, value in enumerate(values):
        truths = [None if value is None else _TRUTH[sign](value, number) for _, sign, number in terms]
        truth = False if False in truths else (None if None in truths else True)
        if truth is not None and truth is not has_not:
            expected.append(at)
    assert passed == expected
