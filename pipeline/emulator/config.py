"""The settings of an emulator: limits, speed, faults and outages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from pipeline.emulator.billing import BY_NAME, Billing
from pipeline.emulator.error_styles import ErrorStyle
from pipeline.emulator.faults import BadAnswer, Fault, known_fault
from pipeline.emulator.headers import HeaderStyle, RetryAfter
from pipeline.emulator.limits import CountTokens, LimitKind
from pipeline.emulator.schedule import LatencyStep, Outage, OutageKind, check_latency_schedule, check_outages
from pipeline.errors import InputError

_BURST_SHARE = 10
_POSITIVE = ("rpm", "tpm", "burst", "slots", "max_body_mb")
_NOT_NEGATIVE = (
    "latency_ms", "jitter_ms", "slow_ms", "stall_s", "fault_retry_after_ms", "thrash", "goes_bad_after", "queue",
    "usd_per_page",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorConfig:
    """How an emulator behaves. Raises InputError where a value makes no sense."""

    rpm: float | None = None
    """Requests granted a minute; None: no limit."""
    tpm: float | None = None
    """Tokens granted a minute; None: no limit."""
    limit_kind: LimitKind = LimitKind.BUCKET
    burst: int | None = None
    """Requests that the bucket grants at once after a pause; None: a tenth of `rpm`, at least 1.

    For tokens it is the same share of `tpm`. OpenAI documents neither: the tenth is this emulator's choice.
    """
    count_tokens: CountTokens = CountTokens.ESTIMATE
    header_style: HeaderStyle = HeaderStyle.OPENAI
    retry_after: RetryAfter = RetryAfter.BOTH
    error_style: ErrorStyle = ErrorStyle.OPENAI

    latency_ms: float = 0.0
    """How long after its arrival a request is answered, at the earliest; with `slots`, how long one is worked on."""
    jitter_ms: float = 0.0
    """Up to this much is added to `latency_ms`, evenly distributed, decided by `seed`."""
    latency_schedule: tuple[LatencyStep, ...] = ()
    """Steps that replace `latency_ms` from their time on."""
    slots: int | None = None
    """Requests that are worked on at a time, the others queue in the order of arrival; None: all of them."""
    queue: int | None = None
    """Requests that may wait for a slot. More get a 429 without Retry-After. None: unlimited."""
    thrash: float = 0.0
    """With F requests in flight, more than the slots N, work takes 1 + thrash x (F - N) / N times as long."""

    seed: int = 0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    """The share of requests that show each fault; together at most 1."""
    slow_ms: float = 5000.0
    """What the fault `slow` adds."""
    stall_s: float = 3600.0
    """How long the fault `stall` hangs, at most."""
    fault_retry_after_ms: int = 1000
    """What the fault `429` asks to wait."""
    goes_bad_after: int | None = None
    """The number of good answers, after which every answer shows `goes_bad`. None: all answers are good."""
    goes_bad: BadAnswer = BadAnswer.EMPTY
    tier_shortage: float = 0.0
    """The share of requests at the tier `flex` that meet no capacity."""
    outages: tuple[Outage, ...] = ()
    outage_kind: OutageKind = OutageKind.UNAVAILABLE

    models: tuple[str, ...] = ()
    """The models that are served; none named: every name that does not begin with `unknown-`."""
    billing: Billing = BY_NAME
    """By whose rules."""
    api_key: str | None = field(default=None, repr=False)
    """The only key that is accepted; None: any, or none."""
    usd_per_page: float | None = None
    """What OCR and OFR say that a page costs; None: they state no cost."""
    decode: bool = True
    """Decode images whole; False reads their headers only, which is faster and sees no damage."""
    fetch_urls: bool = False
    """Fetch images that a request names by address, as a provider does; False refuses them."""
    max_body_mb: float = 64.0

    @property
    def request_burst(self) -> int:
        """Requests that the bucket holds."""
        return self.burst or max(1, int((self.rpm or 0) // _BURST_SHARE))

    @property
    def token_burst(self) -> int:
        """Tokens that the bucket holds: the share of a minute that `request_burst` is."""
        share = self.burst / self.rpm if self.burst and self.rpm else 1 / _BURST_SHARE
        return max(1, int((self.tpm or 0) * share))

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_limits()
        check_outages(self.outages)
        check_latency_schedule(self.latency_schedule)
        for fault, rate in self.faults.items():
            known_fault(fault)
            if not 0 <= rate <= 1:
                raise InputError(f"fault {str(fault)!r}: the rate {rate} is not between 0 and 1")
        if not 0 <= self.tier_shortage <= 1:
            raise InputError(f"emulator: tier_shortage must be between 0 and 1, got {self.tier_shortage}")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise InputError(f"the rates of all faults add up to {sum(self.faults.values()):g}, more than 1")

    def _check_numbers(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise InputError(f"emulator: {name} must be more than 0, got {value}")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value >= 0):
                raise InputError(f"emulator: {name} must not be negative, got {value}")

    def _check_limits(self) -> None:
        for name in ("rpm", "tpm"):
            value = getattr(self, name)
            if value is not None and value != int(value) and self.limit_kind is not LimitKind.BUCKET:
                raise InputError(f"emulator: {name} must be a whole number with limit kind {self.limit_kind}")
        if self.queue is not None and self.slots is None:
            raise InputError("emulator: queue needs slots: it is how many may wait for one of them")
        if self.thrash and self.slots is None:
            raise InputError("emulator: thrash needs slots: it is the time that too many requests cost N workers")


def parse_models(names: str | None) -> tuple[str, ...]:
    """`"a, b"` -> names of models."""
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
