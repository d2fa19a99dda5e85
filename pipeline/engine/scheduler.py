"""Whose turn it is: requests wait in one line, for an endpoint that is ready and for what the budget allows."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio

from pipeline.engine.semaphores import Line
from pipeline.engine.stages import Clock, Trial
from pipeline.engine.state import NEVER, Channel
from pipeline.errors import BudgetReachedError, ErrorKind
from pipeline.limits.budget import Amounts, Budget, leased
from pipeline.limits.decision import SUCCESSES
from pipeline.limits.rate_window import Taken
from pipeline.money import nano_usd
from pipeline.records import Answer, Failure, Usage

BILL_UNKNOWN = frozenset(
    {
        ErrorKind.TIMEOUT,
        ErrorKind.CONNECTION,
        ErrorKind.INVALID_RESPONSE,
        ErrorKind.EMPTY_ANSWER,
        ErrorKind.IMAGE_IGNORED,
    }
)
"""Failures after which the endpoint may have done, and billed, its work."""

NOT_HERE = frozenset({ErrorKind.BAD_REQUEST, ErrorKind.REQUEST_TOO_LARGE, ErrorKind.REQUEST_EXCEEDS_LIMIT})
"""Refusals of one record that another endpoint, with limits and habits of its own, may not share."""

CLAIMS = 1_000
"""Requests that an endpoint makes up for which others had while its permits were all in use: without them every moment
in which it is full lowers its share. Without a bound it would have all requests for hours after a day of being full.
One that pauses makes up for a single request: it must not be flooded when it is back."""

Lease = Callable[[Amounts], Awaitable[None]]


@dataclass(slots=True)
class Turn:
    """One request under way: where, since when, and what it has reserved."""

    channel: Channel
    trial: Trial
    sent_at: float
    taken: Taken
    predicted: Amounts
    reserved: Amounts
    is_settled: bool = field(default=False, init=False)


class Turns:
    """Gives out turns, first come first served, over all endpoints of a run."""

    def __init__(self, channels: Sequence[Channel], budgets: Sequence[Budget], lease: Lease, clock: Clock) -> None:
        """`lease` makes known, before anything is sent, the most that this process may come to until it is called
        again; it is called only where there is a budget.
        """
        self.channels, self.budgets = channels, budgets
        self._clock, self._lease = clock, lease
        self._line = Line()
        self._changed = anyio.Event()
        self._is_waited_for = False
        self.spent = self._reserved = Amounts(0, 0, 0)
        self._leased = leased(budgets, Amounts(0, 0, 0))
        self._now_serving = 0.0
        self._paced: str | None = None

    @property
    def slots(self) -> int:
        return sum(channel.slots for channel in self.channels)

    @property
    def stopped(self) -> str | None:
        """Why there is no use in going on: every endpoint refuses."""
        reasons = [channel.stopped for channel in self.channels]
        if None in reasons:
            return None
        if len(reasons) == 1:
            return reasons[0]
        return "; ".join(f"{channel.name}: {channel.stopped}" for channel in self.channels)

    def blame_records(self) -> bool:
        """Whether a run that would stop goes on, in that the last records answer for their errors themselves."""
        blaming = [channel for channel in self.channels if channel.may_blame_records]
        for channel in blaming:
            channel.blame_records()
        return bool(blaming)

    @property
    def waiting(self) -> str | None:
        """What the whole run waits for: None while one endpoint does not."""
        words = [channel.waiting for channel in self.channels]
        if None in words:
            return self._paced
        return words[0] if len(words) == 1 else "; ".join(filter(None, words))

    def remarks(self) -> list[str]:
        """What the user should be told now."""
        told = [remark for channel in self.channels for remark in channel.remarks]
        notices = [notice for channel in self.channels for notice in channel.notices.take()]
        for channel in self.channels:
            channel.remarks.clear()
        return told if self.stopped else told + notices  # the reason why a run ends holds the same words

    async def next(self, trial: Trial) -> Turn:
        """Wait until this record's request may be sent. Raises BudgetReachedError where it may not any more."""
        if trial.goes_first:
            self.notify()  # whoever is at the head of the line lets it pass
        turn, again = None, False
        while turn is None:
            async with self._line.held(goes_first=trial.goes_first, again=again):
                turn, again = await self._at_head(trial), True
        return turn

    async def _at_head(self, trial: Trial) -> Turn | None:
        """The same for who is at the head of the line; None where somebody must pass."""
        while trial.goes_first or not self._line.has_first:
            now = self._clock.now()
            channel, ready_at = self._choose(now, trial)
            if ready_at > now:
                self._paced = channel.pacing(now, ready_at, trial.request)
                try:
                    await self._change(ready_at - now)
                finally:
                    self._paced = None
                continue
            predicted = channel.endpoint.most(trial.request)
            need = max((budget.reservation(predicted) for budget in self.budgets), key=_nano, default=predicted)
            lacking = next((budget for budget in self.budgets if budget.lacks(need)), None)
            if lacking is not None:
                if not any(each.in_flight for each in self.channels):
                    raise _used_up(lacking, need)
                await self._change(NEVER)
                continue
            if await self._has_leased(need):
                return self._begin(channel, trial, predicted, need)
        return None

    def _choose(self, now: float, trial: Trial) -> tuple[Channel, float]:
        """The endpoint that is ready soonest; of several that are ready, the one whose turn it is by weight."""
        channels = self._others(trial) or self.channels
        if len(channels) == 1:
            return channels[0], channels[0].ready_at(now, trial.request)
        ready = [(max(now, channel.ready_at(now, trial.request)), channel) for channel in channels]
        at, channel = min(ready, key=lambda one: (one[0], one[1].name == trial.failed_on, one[1].turn_of))
        return channel, at

    def refer(self, turn: Turn, failure: Failure) -> bool:
        """Whether another endpoint is asked, once, for what this one refuses."""
        if failure.kind not in NOT_HERE or turn.trial.refused_by is not None:
            return False
        turn.trial.refused_by, turn.trial.refusal = turn.channel.name, failure.message
        return bool(self._others(turn.trial))

    def _others(self, trial: Trial) -> list[Channel]:
        """Once one has refused this record: those at work beside it. Nobody in the line waits for one that is not."""
        if trial.refused_by is None:
            return []
        return [
            channel
            for channel in self.channels
            if channel.name != trial.refused_by and channel.stopped is None and channel.waiting is None
        ]

    def _begin(self, channel: Channel, trial: Trial, predicted: Amounts, need: Amounts) -> Turn:
        now = self._clock.now()
        if len(self.channels) > 1:
            self._count(channel)
        for budget in self.budgets:
            budget.reserve(need)
        self._reserved += need
        taken = channel.begin(now, trial.request)
        return Turn(channel, trial, now, taken, predicted, need)

    def _count(self, chosen: Channel) -> None:
        """Weighted fair queueing: `turn_of` counts an endpoint's requests, each divided by its weight."""
        self._now_serving = max(self._now_serving, chosen.turn_of)
        for channel in self.channels:
            claims = 1 if channel.waiting is not None else CLAIMS
            channel.turn_of = max(channel.turn_of, self._now_serving - claims / channel.endpoint.weight)
        chosen.turn_of += 1 / chosen.endpoint.weight

    def settle(self, turn: Turn, result: Answer | Failure | None) -> int:
        """The request is over (None: nobody waits for it any more): what it may have cost unbilled, in nano-dollars."""
        cost, unknown = _cost(turn.reserved, result)
        self._end(turn, result, cost)
        if isinstance(result, Answer):
            self._refute(turn.trial)
        self.notify()
        return unknown

    def withdraw(self, turn: Turn) -> None:
        """Nothing was sent after all, so nothing is spent."""
        self._end(turn, None, Amounts())
        self.notify()

    def _end(self, turn: Turn, result: Answer | Failure | None, cost: Amounts) -> None:
        turn.is_settled = True
        turn.channel.end(turn.taken, turn.trial.request, result, turn.sent_at)
        for budget in self.budgets:
            budget.settle(turn.reserved, cost, turn.predicted)
        self._reserved -= turn.reserved
        self.spent += cost

    def _refute(self, trial: Trial) -> None:
        for channel in self.channels:
            if channel.name == trial.refused_by:
                channel.refuted(trial.refusal)

    def notify(self) -> None:
        """Something has changed that a turn may depend on."""
        if self._is_waited_for:
            self._is_waited_for = False
            self._changed.set()

    async def _has_leased(self, need: Amounts) -> bool:
        """Whether the ledger knows of this much; False after it was told, since time has passed."""
        wanted = self.spent + self._reserved + need
        if wanted.exceeds(self._leased) is None:
            return True
        ahead = leased(self.budgets, wanted + need.times(self.slots), less=self.spent + self._reserved)
        await self._lease(ahead)
        self._leased = ahead
        return False

    async def _change(self, longest_s: float) -> None:
        self._changed, self._is_waited_for = anyio.Event(), True
        if longest_s == NEVER:
            await self._changed.wait()
            return
        async with anyio.create_task_group() as either:
            either.start_soon(self._sleep_then_cancel, longest_s, either.cancel_scope)
            await self._changed.wait()
            either.cancel_scope.cancel()

    async def _sleep_then_cancel(self, wait_s: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(wait_s)
        scope.cancel()


def _used_up(budget: Budget, need: Amounts) -> BudgetReachedError:
    what = budget.lacks(need) or ""
    return BudgetReachedError(f"no {what} are left", what=what, budget=budget.name, need=getattr(need, what))


def _nano(amounts: Amounts) -> int:
    return amounts.nano_usd or 0


def _cost(reserved: Amounts, result: Answer | Failure | None) -> tuple[Amounts, int]:
    """What a request has cost, and how much of that is not billed: then it counts as all that it reserved."""
    usage = (None if result is None else result.usage) or Usage()
    known = usage.billed_tokens
    stated = None if result is None else nano_usd(result.cost_usd)
    if stated is None and isinstance(result, Failure) and not _may_be_billed(result):
        return Amounts(0, known or 0, 1), 0
    least = max(usage.prompt_tokens or 0, usage.completion_tokens or 0)
    tokens = max(reserved.tokens or 0, least) if known is None else known
    if stated is not None:
        return Amounts(stated, tokens, 1), 0
    unknown = reserved.nano_usd or 0
    if reserved.tokens and tokens > reserved.tokens:
        unknown = -(-unknown * tokens // reserved.tokens)
    return Amounts(unknown, tokens, 1), unknown


def _may_be_billed(failure: Failure) -> bool:
    """Whether the endpoint may have done its work: nothing came back, or an answer that broke off or was useless."""
    broke_off = failure.kind is ErrorKind.SERVER_ERROR and failure.status in SUCCESSES
    return failure.kind in BILL_UNKNOWN or broke_off
