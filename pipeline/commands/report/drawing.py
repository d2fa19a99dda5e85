"""Throughput and latency over time, as a template draws them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pipeline.commands.report.timeline import Chart, Column, Pause, Session
from pipeline.pages.charts import Stretch, round_up, stretches

HEIGHT: Final = 150.0
"""Of the plot, in pixels."""
_LEAST_APART: Final = 16.0
_ON_A_PHONE: Final = 30.0
"""Percent between the words below an axis."""
_LEAST_BAND: Final = 0.35


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: percent across, pixels down."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Words below the axis."""

    x: float
    anchor: str
    text: str
    is_always: bool = True
    """Also on a phone."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points: thousandths across, pixels down."""

    kind: int
    points: str


@dataclass(frozen=True, slots=True)
class TimeCharts:
    """Both charts, which share their axis."""

    height: float
    rate_top: str
    rate_half: str
    latency_top: str
    latency_half: str
    bars: tuple[Box, ...]
    lines: tuple[Line, ...]
    bands: tuple[Box, ...]
    """Pauses."""
    ticks: tuple[Tick, ...]
    breaks: tuple[float, ...]
    """Where time is left out, in percent."""
    has_bad: bool
    interval: str
    """What one bar stands for."""


def drawn(chart: Chart) -> TimeCharts:
    """The charts of all sessions."""
    axis = stretches([(one.began, one.ended) for one in chart.sessions])
    pairs = list(zip(chart.sessions, axis, strict=True))
    columns = [column for one in chart.sessions for column in one.columns]
    rate = round_up(max(one.good + one.bad for one in columns) / chart.width_s)
    latency = round_up(max((one.p95_s or 0.0 for one in columns), default=0.0))
    return TimeCharts(
        height=HEIGHT,
        rate_top=number(rate),
        rate_half=number(rate / 2),
        latency_top=number(latency),
        latency_half=number(latency / 2),
        bars=tuple(box for pair in pairs for box in _bars(*pair, chart.width_s, rate)),
        lines=tuple(line for pair in pairs for line in _lines(*pair, chart.width_s, latency)),
        bands=tuple(band for pair in pairs for band in _bands(*pair)),
        ticks=tuple(_ticks(axis, chart.width_s)),
        breaks=tuple(one.start - 0.6 for one in axis[1:]),
        has_bad=any(one.bad for one in columns),
        interval=how_long(chart.width_s),
    )


def _bars(session: Session, place: Stretch, width_s: float, top: float) -> Iterator[Box]:
    width = place.width / len(session.columns)
    for at, column in enumerate(session.columns):
        x, y = place.start + at * width, HEIGHT
        for rows, kind in ((column.good, "1"), (column.bad, "failed")):
            if rows:
                tall = HEIGHT * rows / width_s / top
                y -= tall
                yield Box(x, y, width * 0.92, tall, kind, _title(column, width_s))


def _title(column: Column, width_s: float) -> str:
    rows = f"{column.good + column.bad:,} rows"
    bad = f", {column.bad:,} of them without a good answer" if column.bad else ""
    latency = "" if column.median_s is None else f"; median latency {column.median_s:.2g} s"
    return f"{moment(column.began, exact=True)}, {how_long(width_s)}: {rows}{bad}{latency}"


def _lines(session: Session, place: Stretch, width_s: float, top: float) -> Iterator[Line]:
    for kind, name in ((2, "p95_s"), (1, "median_s")):
        points = [
            f"{10 * place.at(column.began + width_s / 2):.1f},{HEIGHT * (1 - value / top):.1f}"
            for column in session.columns
            if (value := getattr(column, name)) is not None
        ]
        if points:
            yield Line(kind, " ".join(points if len(points) > 1 else [*points, *points]))


def _bands(session: Session, place: Stretch) -> Iterator[Box]:
    for pause in session.pauses:
        x = place.at(pause.began)
        yield Box(x, 0, max(_LEAST_BAND, place.at(pause.ended) - x), HEIGHT, "pause", words_of(pause))


def words_of(pause: Pause) -> str:
    """`rate limited for 12 s from 22 Nov 07:41:03: http://…`"""
    times = "" if pause.times == 1 else f", {pause.times:,} times until {moment(pause.ended, exact=True)}"
    return (
        f"{pause.reason} for {how_long(pause.seconds)} from {moment(pause.began, exact=True)}{times}: {pause.endpoint}"
    )


def _ticks(axis: Sequence[Stretch], width_s: float) -> Iterator[Tick]:
    """When each stretch begins, as far as there is room, and when the last one ends."""
    exact, last = width_s < 60, -_LEAST_APART  # noqa: PLR2004 - minutes are told then
    for place in axis:
        if place.start - last >= _LEAST_APART and place.start <= 100 - _LEAST_APART:
            last = place.start
            is_seen = place.start == 0 or _ON_A_PHONE <= place.start <= 100 - 2 * _ON_A_PHONE
            yield Tick(place.start, "start", moment(place.began, exact=exact), is_seen)
    yield Tick(100.0, "end", moment(axis[-1].ended, exact=exact))


def moment(time: float, *, exact: bool = False) -> str:
    """`22 Nov 07:41`, in UTC; with seconds where they matter."""
    at = datetime.fromtimestamp(time, UTC)
    return f"{at.day} {at:%b %H:%M:%S}" if exact else f"{at.day} {at:%b %H:%M}"


def how_long(seconds: float) -> str:
    """`0.25 s`, `40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 60:  # noqa: PLR2004 - seconds in a minute; so below
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:  # noqa: PLR2004
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def number(value: float) -> str:
    """Of an axis: 1,250, 25, 2.5, 0.05."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"  # noqa: PLR2004 - whole numbers need no places
