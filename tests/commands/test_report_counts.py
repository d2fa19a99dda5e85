"""What a report counts: times in bounded bins, a sample of every kind of row, sums by status, model and size."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from pipeline.commands.report.sample import MOST_STRATA, Sample, seats_of
from pipeline.commands.report.sums import RowSums
from pipeline.commands.report.tables import by_size, labels, size_name
from pipeline.commands.report.timeline import COLUMNS, MOST_BINS, Pause, Timeline, quantile
from pipeline.pages.charts import round_up, stacked, stretches

DAY_S = 86_400


def timeline(*seconds: float) -> Timeline:
    """A good row at each of these times, each with a latency of a second."""
    made = Timeline()
    times = (np.array(seconds) * 1e6).astype(np.int64)
    for part in np.array_split(times, 7):
        made.add(part, np.ones(len(part), bool), np.ones(len(part)))
    return made


@pytest.mark.parametrize(
    ("seconds", "sessions", "width_s"),
    [
        ([0.1, 0.2, 3.0], 1, 0.25),
        ([*range(3600)], 1, 64.0),
        ([*range(3600), *range(DAY_S, DAY_S + 3600)], 2, 128.0),
        ([day * DAY_S + at for day in range(30) for at in range(0, 3600, 60)], 30, 2048.0),
        ([hour * 3600 for hour in range(24 * 60)], 1, 65536.0),  # a trickle: no hour of it is a session of its own
    ],
)
def test_time_is_cut_into_few_columns(seconds: list[float], sessions: int, width_s: float) -> None:
    """Whatever the time that rows cover: bounded memory, few columns, all rows, no long gap."""
    found = timeline(*seconds).chart()
    assert found is not None
    columns = [column for one in found.sessions for column in one.columns]
    assert (len(found.sessions), found.width_s) == (sessions, width_s)
    assert len(columns) <= COLUMNS
    assert sum(one.good for one in columns) == len(seconds)
    assert {round(one.median_s or 1, 1) for one in columns} == {1.0}


def test_bins_are_bounded() -> None:
    made = timeline(*range(0, 50_000 * 7, 7))
    assert made.width_s >= 50_000 * 7 / MOST_BINS
    assert made.rows == 50_000


def test_a_pause_belongs_to_the_time_around_it() -> None:
    """A long one splits no session, and is part of the chart even where no row follows."""
    pauses = [
        Pause(10, 4000, "rate limited", "here", 1, 3990.0),
        Pause(9000, 9010, "cannot be reached", "here", 1, 10.0),
    ]
    found = timeline(*range(10), *range(4000, 4010)).chart(pauses)
    assert found is not None
    assert [len(one.pauses) for one in found.sessions] == [1, 1]
    assert Timeline().chart(pauses) is None


def test_quantiles_are_near() -> None:
    """Within the width of a bucket."""
    made = Timeline()
    latencies = np.random.default_rng(1).gamma(2, 1.5, 40_000)
    made.add(np.arange(40_000), np.ones(40_000, bool), latencies)
    for share in (0.05, 0.5, 0.95):
        assert quantile(made.latencies, share) == pytest.approx(np.quantile(latencies, share), rel=0.02)


def test_a_sample_has_every_kind_of_row() -> None:
    """Rare kinds get a few places, the others by their number; the same rows give the same sample."""
    kinds = ["ok"] * 9_000 + ["failed"] * 2 + ["refused"] * 998
    table = pa.table({"id": [str(at) for at in range(10_000)]})

    def draw() -> list[str]:
        sample = Sample(100)
        for start in range(0, 10_000, 512):
            sample.add(table.slice(start, 512), [kinds[start : start + 512]])
        return [row["id"] for row in sample.drawn()]

    drawn = draw()
    assert drawn == draw() == sorted(drawn, key=int)
    counts = [sum(kinds[int(one)] == kind for one in drawn) for kind in ("ok", "failed", "refused")]
    assert counts[1] == 2
    assert 80 <= counts[0] <= 95
    assert sum(counts) == 100


def test_kinds_without_bound_are_bounded() -> None:
    sample = Sample(10)
    table = pa.table({"id": [str(at) for at in range(5_000)]})
    sample.add(table, [[str(at) for at in range(5_000)]])
    assert len(sample.drawn()) == 10
    assert len(sample._strata) == MOST_STRATA + 1


@pytest.mark.parametrize(
    ("rows", "size", "seats"),
    [
        ([5], 10, [5]),
        ([100, 1], 10, [9, 1]),
        ([50, 50], 3, [2, 1]),
        ([], 5, []),
        ([900, 90, 10], 100, [84, 12, 4]),
    ],
)
def test_seats(rows: list[int], size: int, seats: list[int]) -> None:
    found = seats_of(rows, [min(one, size) for one in rows], size)
    assert sum(found) == min(size, sum(rows))
    assert sorted(found) == pytest.approx(sorted(seats), abs=1)


def rows(**columns: list[object]) -> pa.Table:
    """Rows that are ok and cost a cent, where a column says nothing else."""
    count = len(next(iter(columns.values())))
    plain: dict[str, tuple[object, pa.DataType]] = {
        "id": ("a", pa.string()), "status": ("ok", pa.string()), "error_kind": (None, pa.string()),
        "error_message": (None, pa.string()), "model": ("m", pa.string()), "prompt_name": ("caption", pa.string()),
        "flags": ([], pa.list_(pa.string())), "duplicate_of": (None, pa.string()), "attempts": (1, pa.int32()),
        "width": (1000, pa.int32()), "height": (800, pa.int32()), "cost_usd": (Decimal("0.01"), pa.decimal128(18, 9)),
        **{name: (value, pa.int64()) for name, value in (
            ("prompt_tokens", 100), ("cached_tokens", 0), ("completion_tokens", 10), ("reasoning_tokens", None),
            ("predicted_prompt_tokens", 50),
        )},
    }  # fmt: skip
    return pa.table({name: pa.array(columns.get(name, [value] * count), kind) for name, (value, kind) in plain.items()})


def test_sums_leave_out_what_was_not_billed() -> None:
    """Rows that share an answer, failed rows, retried rows and rows without a prediction each count where they may."""
    sums = RowSums()
    sums.add(rows(duplicate_of=[None, "a", None], attempts=[1, 0, 2]))
    sums.add(rows(status=["failed"], error_kind=["timeout"], cost_usd=[None], prompt_tokens=[None], model=[None]))
    sums.add(rows(predicted_prompt_tokens=[None, 0], width=[None, 9000]))
    found = sums.all
    assert (found.rows, found.shared, found.priced, found.billed) == (6, 1, 4, 4)
    assert (found.singles, found.single_billed, found.single_predicted) == (1, 100, 50)
    assert found.cost_usd == Decimal("0.04")
    assert sums.by("status")["failed"].rows == 1
    assert [(one.name, one.rows) for one in by_size(sums)] == [("0.5 to 1 MP", 4), ("4 to 8 MP", 1)]
    assert size_name(99) == "above 64 MP"


def test_labels_are_counted_by_their_kind() -> None:
    """Words and truth values by name, whole numbers by number or range, lists by their entries."""
    kind = pa.struct(
        {"mood": pa.string(), "sharp": pa.bool_(), "people": pa.int64(), "area": pa.int64(), "score": pa.float64(),
         "tags": pa.list_(pa.string()), "none": pa.string()}
    )  # fmt: skip
    values = [
        {"mood": "calm", "sharp": True, "people": 1, "area": 100 * at, "score": at / 4, "tags": ["a", "b"][: at % 3]}
        for at in range(5)
    ]
    sums = RowSums()
    sums.add(rows(id=["a"] * 5).append_column("labels", pa.array([*values[:4], None], kind)))
    found = {one.name: one for one in labels(sums)}
    assert "none" not in found
    assert [(one.name, one.count) for one in found["sharp"].bars] == [("true", 4)]
    assert [(one.name, one.count) for one in found["people"].bars] == [("1", 4)]
    assert [one.count for one in found["area"].bars if one.count] == [1, 1, 1, 1]
    assert [(one.name, one.count) for one in found["tags"].bars] == [("a", 2), ("b", 1)]
    assert found["score"].words == "4 values, 0.38 in the mean, from 0 to 0.75"


def test_places_of_charts() -> None:
    """Shares come to all of a bar; an axis ends at a round number; stretches of time stand side by side."""
    parts = stacked([("a", 1, "1"), ("b", 0, "2"), ("c", 3, "3")])
    assert [(one.name, one.start, one.width) for one in parts] == [("a", 0.0, 25.0), ("c", 25.0, 75.0)]
    assert [round_up(one) for one in (0, 0.03, 1, 10.5, 41.2, 99)] == [1, 0.03, 1, 15, 50, 100]
    one, two = stretches([(0, 10), (100, 130)])
    assert (one.start, round(two.start + two.width, 6)) == (0.0, 100.0)
    assert two.width == pytest.approx(3 * one.width)
    assert one.at(-5) == 0.0
    assert two.at(999) == pytest.approx(100.0)
