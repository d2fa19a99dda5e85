"""Requests and tokens a minute: when the next request may be sent, as arithmetic over a given time.

A provider may count in a token bucket, in fixed minutes or in the last sixty seconds; it seldom documents which. What
is spread evenly and never exceeds the limit in any sixty seconds suits all three. Times are seconds of one clock.
"""

from collections import deque
from dataclasses import dataclass

from pipeline.records import Quota, RateLimitInfo

MINUTE_S = 60.0
"""What limits are of: requests and tokens a minute."""
SLACK_S = 0.1
"""A request may take this much longer to arrive than one sent a minute later; without it both count in one minute."""
CATCH_UP_S = 0.25
"""A delay of this machine of up to this long is made up for; without it every hiccup costs its share of the rate."""
SLICE_S = 0.05
"""Requests within one slice are counted together; without it 100,000 RPM would keep 100,000 entries."""
LONG_S = 90.0
"""A quota that resets later than this is no quota of a minute; without it a day's quota would pace a run."""
TIGHT = 0.8
"""From this share of a known rate on, a throttle is about that rate; without it the number in flight would be cut."""
KEPT = 0.95
"""A throttle leaves this share of a learned rate; less gives up more than a provider's own jitter takes."""
GROWTH = 0.1
"""A learned rate grows by this share a minute, twice that after each quiet minute; without it a rate that rises, or
was learned too low, would never be used.
"""
SEEKING = 2.0
"""The same until the first minute is over or a throttle ends it: a burst of seconds says little about a minute."""
DOUBTED = 0.5
"""Of the highest that was learned: a rate that throttles have cut below this is forgotten. Without it throttles that
follow no rate, one in twenty at random, would slow a run to one request a second.
"""
ROUNDING = 1e-9
"""What sums of fractions may be off by; without it a request of just the remaining tokens would wait."""


@dataclass(slots=True)
class Slice:
    """The amount that was counted within one slice of time."""

    at: float
    amount: float


class Minutes:
    """Amounts of the last minutes, in slices."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self.slices: deque[Slice] = deque()
        self.total = 0.0

    def add(self, at: float, amount: float) -> Slice:
        self.total += amount
        if not self.slices or self.slices[-1].at < at:
            self.slices.append(Slice(at + SLICE_S, 0.0))
        self.slices[-1].amount += amount
        return self.slices[-1]

    def forget(self, now: float) -> None:
        while self.slices and self.slices[0].at + self._window_s <= now:
            self.total -= self.slices.popleft().amount
        if not self.slices:
            self.total = 0.0

    def within(self, since: float, until: float) -> float:
        return sum(each.amount for each in self.slices if since < each.at <= until + SLICE_S)


class RateWindow:
    """A rate of one thing: stated by the user, advertised by the endpoint, or learned from throttles.

    Without a limit it counts all the same: the endpoint may advertise one later.
    """

    def __init__(self, stated: float | None = None, slack_s: float = SLACK_S) -> None:
        """`slack_s`: how much later than another a request may arrive than it was sent."""
        self._slack_s = slack_s
        self.stated: float | None = stated
        self.advertised: float | None = None
        self.learned: float | None = None
        self._sent, self._granted = Minutes(MINUTE_S + slack_s), Minutes(2 * MINUTE_S)
        self._next_at = self._throttled_at = float("-inf")
        self._first_at: float | None = None
        self._is_seeking = True
        self._highest = 0.0
        """Of the rates learned since the last was forgotten."""
        self.is_doubted = False
        """Whether the last learned rate was forgotten: throttles may follow none."""

    @property
    def per_minute(self) -> float | None:
        """The smaller of those that the user and the endpoint state: an endpoint tightens, and never loosens."""
        return _least(self.stated, self.advertised)

    def ready_at(self, now: float, amount: float) -> float:
        """When `amount` may be taken: `now`, or later. What is larger than a whole minute waits for an empty one."""
        limit = self.per_minute
        if limit is None and self.learned is None:
            return now
        self._sent.forget(now)
        at = max(now, self._next_at if limit is None else self._next_at - CATCH_UP_S)
        excess = 0.0 if limit is None else self._sent.total + min(amount, limit) - limit
        for slice_ in self._sent.slices:
            if limit is None or excess <= ROUNDING * limit:
                break
            excess -= slice_.amount
            at = max(at, slice_.at + MINUTE_S + self._slack_s)
        return at

    def sent_lately(self, now: float) -> float:
        """What was taken within the last minute."""
        self._sent.forget(now)
        return self._sent.total

    def hold(self, until: float) -> None:
        """Take nothing before this time."""
        self._next_at = until + CATCH_UP_S

    def take(self, now: float, amount: float) -> Slice:
        """Count `amount` as sent; what comes back is for `correct`."""
        self._first_at = now if self._first_at is None else self._first_at
        self._sent.forget(now)
        if (pace := self._pace) is not None:
            self._next_at = max(now, self._next_at) + amount * MINUTE_S / pace
        return self._sent.add(now, amount)

    def correct(self, slice_: Slice, difference: float) -> None:
        """The request that is counted there was larger, or smaller, than predicted."""
        slices = self._sent.slices
        if not slices or slice_.at < slices[0].at:  # a minute ago
            return
        slice_.amount += difference
        self._sent.total += difference
        if (pace := self._pace) is not None:
            # A minute after the last request nothing of the window is used, whatever was billed.
            latest = slices[-1].at + MINUTE_S
            self._next_at = min(self._next_at + difference * MINUTE_S / pace, max(latest, self._next_at))

    def granted(self, now: float, sent_at: float) -> None:
        """A request sent at `sent_at` was answered. A learned rate grows by it."""
        self._granted.add(sent_at, 1)
        self._granted.forget(now)
        if self.learned is not None:
            quiet = (now - self._throttled_at) / MINUTE_S
            self.learned += SEEKING if self._is_seeking else min(SEEKING, GROWTH * 2.0 ** min(10.0, quiet))

    def throttled(self, now: float) -> None:
        self._throttled_at = now
        if self.learned is not None:  # what was throttled used nothing of the rate
            self._next_at -= MINUTE_S / self.learned

    def learn(self, throttled_at: float, has_wait: bool = False) -> None:  # noqa: FBT001, FBT002 - one fact of two
        """Requests sent from then on were throttled: the minute before shows what one grants.

        Where the wait is stated, a throttle costs no time, and the whole rate is used.
        """
        granted = self._granted.within(throttled_at - MINUTE_S, throttled_at)
        if self.per_minute is not None or not granted:
            return
        kept = 0.0 if has_wait or self._is_seeking or self.learned is None else self.learned
        self._is_seeking = self.is_young(throttled_at)
        learned = max(1.0, granted + 1 if has_wait else KEPT * max(kept, granted))
        self.is_doubted = learned < DOUBTED * self._highest
        self.learned, self._highest = (None, 0.0) if self.is_doubted else (learned, max(self._highest, learned))

    def is_young(self, now: float) -> bool:
        """Whether the first minute is not over. A burst of seconds says little about a minute: learned from a moment
        without capacity, it would pace a run for minutes.
        """
        return now < (self._first_at or 0.0) + MINUTE_S

    def is_tight(self, now: float) -> bool:
        """Whether nearly all of the last minute's rate is used."""
        self._sent.forget(now)
        pace = self._pace
        return pace is not None and self._sent.total >= TIGHT * pace

    @property
    def _pace(self) -> float | None:
        return _least(self.per_minute, self.learned)


@dataclass(frozen=True, slots=True)
class Taken:
    """One request's share of an endpoint's rates."""

    tokens: float
    slice_: Slice


class RateLimits:
    """Requests and tokens a minute of one endpoint."""

    def __init__(
        self, rpm: float | None = None, tpm: float | None = None, shards: int = 1, slack_s: float = SLACK_S
    ) -> None:
        """Of an endpoint that N shards ask: what is stated and what it advertises are divided by N."""
        self._shards = shards
        self.requests, self.tokens = (RateWindow(rate and rate / shards, slack_s) for rate in (rpm, tpm))
        self.corrected = 0.0
        """Tokens that were billed beyond the predicted ones."""
        self._granted_tokens = 0.0
        """The largest request that was answered."""
        self._is_doubted = False

    def stagger(self, now: float, wall_s: float, index: int) -> None:
        """Begin when it is this shard's time, where a share is less than one request a minute.

        The shards then send one after the other, whenever each of them was started; `wall_s` is the time of day.
        """
        if self._shards > 1 and self.requests.stated is not None and self.requests.stated < 1:
            every_s = MINUTE_S / self.requests.stated
            self.requests.hold(now + (index / self._shards * every_s - wall_s) % every_s)

    def ready_at(self, now: float, tokens: float) -> float:
        """When a request of this many tokens may be sent: `now`, or later."""
        return max(self.requests.ready_at(now, 1), self.tokens.ready_at(now, tokens))

    def take(self, now: float, tokens: float) -> Taken:
        self.requests.take(now, 1)
        # A request may be larger than a share, and then counts whole; what is larger than all shares is an error.
        tokens = min(tokens, (self.tokens.per_minute or tokens) * self._shards)
        return Taken(tokens, self.tokens.take(now, tokens))

    def settle(self, taken: Taken, tokens: float) -> None:
        """The tokens that the request was billed."""
        self.corrected += tokens - taken.tokens
        self.tokens.correct(taken.slice_, tokens - taken.tokens)

    def advertise(self, info: RateLimitInfo, granted_tokens: float = 0.0) -> str | None:
        """Apply what a response's headers report; an answer to a request of this many tokens came with them.

        A rate below what one request was granted is not believed; the first time, this is returned in words.
        """
        self._granted_tokens = max(self._granted_tokens, granted_tokens)
        _advertise(self.requests, info.requests, self._shards)
        _advertise(self.tokens, info.tokens, self._shards)
        most = self._advertised_tokens
        if most is None or most >= self._granted_tokens:
            return None
        self.tokens.advertised = None
        if self._is_doubted:
            return None
        self._is_doubted = True
        return f"a limit of {most:,.0f} tokens a minute, and granted {self._granted_tokens:,.0f} to a single request"

    def words(self, now: float, tokens: float) -> str | None:
        """Which of them a request of this many tokens waits for; None where no rate is known."""
        by_tokens = self.tokens.ready_at(now, tokens) > self.requests.ready_at(now, 1)
        window, what, flag = (
            (self.tokens, "token", "`limits.tpm`") if by_tokens else (self.requests, "request", "`limits.rpm`")
        )
        limit = window.per_minute
        if limit is None:
            learned = window.learned
            return None if learned is None else f"the endpoint throttles beyond about {learned:,.0f} requests a minute"
        whose = flag if limit == window.stated else "the endpoint"
        number = f"{limit:,.0f}" if limit >= 1 else f"{limit:g}"
        return f"{whose} allows {number} {what}{'' if number == '1' else 's'} a minute"

    def is_tight(self, now: float) -> bool:
        """Whether a known rate is nearly used up: then a throttle is about it."""
        return self.requests.is_tight(now) or self.tokens.is_tight(now)

    def allows(self, tokens: float) -> bool:
        """Whether a request of this many tokens can ever be granted."""
        return self._advertised_tokens is None or tokens <= self._advertised_tokens

    @property
    def _advertised_tokens(self) -> float | None:
        """The whole limit, of all shards."""
        return None if self.tokens.advertised is None else self.tokens.advertised * self._shards


def _least(limit: float | None, other: float | None) -> float | None:
    """The smaller of those that there are."""
    if limit is None or other is None:
        return other if limit is None else limit
    return min(limit, other)


def back_in_s(info: RateLimitInfo | None) -> float | None:
    """Seconds until a used-up quota is back, by the headers of a 429; None where they do not report it."""
    quotas = () if info is None else (info.requests, info.tokens)
    spent = [quota.reset_s for quota in quotas if quota is not None and quota.remaining == 0]
    spent += [] if info is None else [info.reset_s]
    return max((reset_s for reset_s in spent if reset_s is not None), default=None)


def _advertise(window: RateWindow, quota: Quota | None, shards: int) -> None:
    if quota is None or quota.limit < 1:  # no provider grants less than one a minute
        return
    is_long = quota.reset_s is not None and quota.reset_s > LONG_S  # its end is stated by a 429
    window.advertised = None if is_long else quota.limit / shards
