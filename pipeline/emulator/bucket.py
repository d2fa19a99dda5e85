"""The rate limit's arithmetic: a token bucket in whole nanoseconds, with the time passed in."""

from dataclasses import dataclass, field

MINUTE_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Grant:
    """What the bucket said to one request, and how full it is afterwards."""

    granted: bool
    remaining: int
    """Requests that would be granted at this moment."""
    wait_ns: int
    """Until one more would be granted; 0 where `remaining` is not."""
    reset_ns: int
    """Until the bucket is full again."""


@dataclass(slots=True)
class TokenBucket:
    """Grants `capacity` requests at once and one more each `interval_ns`.

    Whole numbers make it exact: in any window of t nanoseconds at most capacity + t // interval_ns
    requests are granted. Time that runs backwards counts as standing still.
    """

    capacity: int
    interval_ns: int
    _credit_ns: int = field(init=False)
    _updated_ns: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._credit_ns = self._full_ns

    @classmethod
    def per_minute(cls, rpm: float, burst: int | None = None) -> "TokenBucket":
        """`rpm` requests a minute; `burst` at once, by default a tenth of them and at least 1."""
        return cls(burst or max(1, int(rpm // 10)), max(1, round(MINUTE_NS / rpm)))

    def take(self, now_ns: int) -> Grant:
        self._refill(now_ns)
        granted = self._credit_ns >= self.interval_ns
        if granted:
            self._credit_ns -= self.interval_ns
        return Grant(
            granted=granted,
            remaining=self._credit_ns // self.interval_ns,
            wait_ns=max(0, self.interval_ns - self._credit_ns),
            reset_ns=self._full_ns - self._credit_ns,
        )

    @property
    def _full_ns(self) -> int:
        return self.capacity * self.interval_ns

    def _refill(self, now_ns: int) -> None:
        if self._updated_ns is not None and now_ns > self._updated_ns:
            self._credit_ns = min(self._full_ns, self._credit_ns + now_ns - self._updated_ns)
        self._updated_ns = max(now_ns, self._updated_ns if self._updated_ns is not None else now_ns)


def go_duration(duration_ns: int) -> str:
    """A duration as OpenAI's `x-ratelimit-reset-*` writes it: `12ms`, `8.64s`, `6m0s`, `1h0m0s`."""
    total_ms = -(-duration_ns // 1_000_000)
    if total_ms < 1000:  # noqa: PLR2004 -- milliseconds in a second
        return f"{total_ms}ms"
    minutes, rest_ms = divmod(total_ms, 60_000)
    seconds = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"
