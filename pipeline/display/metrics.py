"""The figures of a run as a Prometheus text file, which node_exporter's textfile collector and others read.

Names and units of what a model was asked follow OpenTelemetry's semantic conventions for generative AI clients
(`gen_ai.client.token.usage`, `gen_ai.client.operation.duration`) in Prometheus's spelling, as summaries of a sum and a
count. Everything else is `vision_batch_*`. The counts are those of the run so far, read when the file is written:
nothing is counted for it while requests are sent. The label `out` tells the files of several jobs apart.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

from pipeline.config.extras import METRICS_HINT, has_metrics_extra
from pipeline.config.run_config import RunConfig
from pipeline.engine.stats import RunStats, RunSummary
from pipeline.errors import InputError, ResourceError, VisionBatchError
from pipeline.records import Status

if TYPE_CHECKING:
    from prometheus_client import Metric

EVERY_S = 5.0
"""Between two files. Prometheus itself looks every 15 s or less often."""


class MetricsFile:
    """Writes the file while a run goes on."""

    def __init__(self, path: Path, *, out: str, model: str | None, now: Callable[[], float] = monotonic) -> None:
        """Raises InputError where the package is not installed, ResourceError where the file cannot be written."""
        if not has_metrics_extra():
            raise InputError(f"`metrics=`: {METRICS_HINT}")
        self._path, self._now, self._written_at = path, now, 0.0
        self._labels = {"out": out, "gen_ai_request_model": model or ""}
        self._stats = RunStats()
        self._exit_code: int | None = None
        self._write()

    def show(self, stats: RunStats) -> None:
        """The counts as they are now; called several times a second. A file that fails ends no run."""
        self._stats = stats
        if self._now() - self._written_at >= EVERY_S:
            try:
                self._write()
            except ResourceError:
                self._written_at = self._now()

    async def of(self, work: Callable[[], Awaitable[RunSummary]]) -> RunSummary:
        """Awaits the run; its exit code is the last figure."""
        try:
            summary = await work()
        except VisionBatchError as error:
            self._end(error.exit_code)
            raise
        self._end(summary.exit_code)
        return summary

    def _end(self, exit_code: int) -> None:
        self._exit_code = exit_code
        with suppress(ResourceError):  # the run itself is complete
            self._write()

    def collect(self) -> Iterator["Metric"]:
        """What `prometheus_client` asks for."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily  # noqa: PLC0415

        stats = self._stats
        tokens = SummaryMetricFamily(
            "gen_ai_client_token_usage", "Tokens that were billed", labels=[*self._labels, "gen_ai_token_type"]
        )
        for kind, count in (("input", stats.prompt_tokens), ("output", stats.completion_tokens)):
            tokens.add_metric([*self._labels.values(), kind], stats.answered, count)
        yield tokens
        seconds = SummaryMetricFamily(
            "gen_ai_client_operation_duration_seconds",
            "Time of the requests that were answered",
            labels=[*self._labels],
        )
        seconds.add_metric([*self._labels.values()], stats.answered, stats.latency_s)
        yield seconds
        yield self._by(
            "rows", "Rows of this run by status", "status", {one.value: stats.by_status[one] for one in Status}
        )
        yield self._by("errors", "Rows without a good answer", "error_type", dict(sorted(stats.by_error.items())))
        for family, figures in ((CounterMetricFamily, self._counters(stats)), (GaugeMetricFamily, self._gauges(stats))):
            for name, about, value in figures:
                metric = family(f"vision_batch_{name}", about, labels=["out"])
                metric.add_metric([self._labels["out"]], value)
                yield metric

    def _by(self, name: str, about: str, label: str, counts: Mapping[str, int]) -> "Metric":
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra

        counter = CounterMetricFamily(f"vision_batch_{name}", about, labels=["out", label])
        for value, count in counts.items():
            counter.add_metric([self._labels["out"], value], count)
        return counter

    @staticmethod
    def _counters(stats: RunStats) -> list[tuple[str, str, float]]:
        return [
            ("requests", "Requests sent, retries included", stats.requests),
            ("retries", "Requests after the first of a row", stats.retried),
            ("throttled", "Requests that were throttled", stats.rate_limited),
            ("cost_usd", "Cost of this run as far as it is known", float(stats.cost_usd)),
            ("cost_unknown_usd", "The most that requests without a bill can have cost", float(stats.cost_unknown_usd)),
        ]

    def _gauges(self, stats: RunStats) -> list[tuple[str, str, float]]:
        known = [
            ("in_flight", "Requests in flight", stats.in_flight),
            ("paused", "Whether the whole run waits", stats.waiting is not None and self._exit_code is None),
            ("running", "Whether the run is at work", self._exit_code is None),
            ("skipped_rows", "Rows that earlier runs have answered", stats.skipped),
            ("updated_timestamp_seconds", "When this file was written", time()),
        ]
        if stats.total is not None:
            known.append(("expected_rows", "Rows that the source comes to", stats.total))
        if self._exit_code is not None:
            known.append(("exit_code", "Exit code of the run", self._exit_code))
        return known

    def _write(self) -> None:
        from prometheus_client import CollectorRegistry, write_to_textfile  # noqa: PLC0415 - an extra

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        self._written_at = self._now()
        try:
            write_to_textfile(str(self._path), registry)  # beside it first, and renamed
        except OSError as error:
            raise ResourceError(f"{self._path}: {error.strerror} (output.metrics)") from error


def metrics_of(config: RunConfig, out: str) -> MetricsFile | None:
    """The file that `output.metrics` names."""
    path = config.output.metrics
    return None if path is None else MetricsFile(path, out=out, model=config.request.model)
