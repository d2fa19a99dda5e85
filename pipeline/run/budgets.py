"""The budgets of one run: what they still allow, which is used up, and what later runs on OUT have to know."""

import hashlib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Final

from pipeline.engine.progress import alike, dollars
from pipeline.engine.stats import RunStats
from pipeline.errors import BudgetReachedError, VisionBatchError
from pipeline.limits.budget import Amounts, Budget
from pipeline.money import nano_usd, usd
from pipeline.run.job import Job
from pipeline.store.accounting import Totals
from pipeline.store.dataset import Dataset

RUN, TOTAL = "run", "total"
"""The budget of one run, and that of all runs on an OUT."""
NO_LIMIT_NANO_USD: Final = 10**18
"""A billion dollars: a budget has some limit, and leases are taken for what has a budget."""
_MARGIN, _STOPPED = "margin", "stopped by its budget"


class RunBudgets:
    """What this run, and all runs on OUT, may still spend.

    OUT remembers by how much answers were billed beyond their prediction, so that the next run reserves as much from
    its first request on. It also remembers when its budget stopped a run: from the next day on the run has as much
    again, so that a nightly job goes on.
    """

    def __init__(self, job: Job, dataset: Dataset, today: date, *, is_priced: bool) -> None:
        self._job, self._dataset, self._today = job, dataset, today
        self._is_own = job.leases is None  # else limits are given out to shards
        self._priced_by = _priced_by(job)
        self.all = self._own() if job.leases is None else job.leases.begin(_amounts(dataset.totals()))
        self.granted_usd = min((usd(left) for one in self.all if (left := one.left.nano_usd) is not None), default=None)
        # In a bucket each lease waits for an upload.
        if is_priced and self._is_own and job.address is None and self.granted_usd is None:
            # Its lease tells what was in flight at a kill.
            self.all.append(Budget(Amounts(nano_usd=NO_LIMIT_NANO_USD), is_proven=True))
        for one in self.all if self._is_own else ():
            one.margin = self._known_margin()
        for one in self.all if dataset.has_answers() else ():
            one.is_proven = True

    def _own(self) -> list[Budget]:
        budget, budgets = self._job.budget, []
        run_limit = Amounts(nano_usd(budget.max_cost_usd), budget.max_tokens, budget.max_requests)
        if run_limit != Amounts():
            budgets.append(Budget(run_limit, RUN, self._spent_by_run()))
        if budget.max_cost_total_usd is not None:
            spent = Amounts(nano_usd(self._dataset.totals().spent_usd))
            budgets.append(Budget(Amounts(nano_usd(budget.max_cost_total_usd)), TOTAL, spent))
        return budgets

    def lease(self, amounts: Amounts) -> None:
        """Store the most that this process may spend, before it does."""
        self._note_margin()
        self._dataset.lease(amounts)

    def end(self, stopped: VisionBatchError | None) -> None:
        """Once all that was spent is in the ledger."""
        self._note_margin()
        if isinstance(stopped, BudgetReachedError) and stopped.budget == RUN:
            spent, base = _amounts(self._dataset.run_totals()), self._base()
            stop = {"run": self._dataset.run_id, "on": self._today.isoformat()}
            self._dataset.notes.put(_STOPPED, {**stop, "spent": _listed(spent), "base": _listed(base)})

    def reached(self, error: BudgetReachedError, stats: RunStats) -> BudgetReachedError:
        """The same error in words: which budget is used up, how much is left undone, and what that would cost."""
        budget, totals, spent = self._job.budget, self._dataset.run_totals(), self._spent_by_run()
        spent_usd, most_usd = usd(spent.nano_usd or 0), budget.max_cost_usd
        if error.budget == TOTAL:
            spent_usd, most_usd = self._dataset.totals().spent_usd, budget.max_cost_total_usd
        need, shown, most = alike(usd(error.need), spent_usd, most_usd or Decimal(0))
        words = {
            "nano_usd": f"the budget has no room for another request, which may cost up to {need}: "
            f"{shown} of {most} are spent{_beyond(spent_usd, most_usd)}",
            "tokens": f"budget.max_tokens has no room for another request, which may take up to {error.need:,}: "
            f"{spent.tokens or 0:,} tokens are spent",
            "requests": f"budget.max_requests is used up: {budget.max_requests or 0:,} requests",
            "time": f"the time is up (`budget.max_time_s`, {budget.max_time_s or 0:.0f} s)",
        }[error.what]
        if totals.cost_unknown_usd:
            words += f" ({dollars(totals.cost_unknown_usd)} of it for requests whose bill is unknown)"
        again = "The same command goes on where it stopped"
        if error.what != "time":
            again = "Run the command again with a larger budget" + (
                ", or tomorrow (UTC)" if error.budget == RUN else ""
            )
        if self._job.implied_budget_usd is not None and error.what == "nano_usd":
            again = "Run the command again with a budget (`budget.max_cost_usd=USD`), or without one (`yes=True`)"
        text = f"{'; '.join([words, *_left(stats, totals)])}. {again}"
        return BudgetReachedError(text, what=error.what, budget=error.budget)

    def _spent_by_run(self) -> Amounts:
        return _amounts(self._dataset.run_totals()) - self._base()

    def _base(self) -> Amounts:
        """What the run had spent of budgets of earlier days."""
        noted = self._dataset.notes.of(_STOPPED)
        if noted.get("run") != self._dataset.run_id:
            return Amounts(0, 0, 0)
        return Amounts(*noted["spent" if noted["on"] < self._today.isoformat() else "base"])

    def _known_margin(self) -> float:
        noted = self._dataset.notes.of(_MARGIN)
        return float(noted["margin"]) if noted.get("priced_by") == self._priced_by else 1.0

    def _note_margin(self) -> None:
        margin = max((one.margin for one in self.all), default=1.0)
        if self._is_own and margin > self._known_margin():
            self._dataset.notes.put(_MARGIN, {"priced_by": self._priced_by, "margin": margin})


def used_up(stopped: VisionBatchError | None) -> str | None:
    """The setting that the next run needs more of, where a budget has stopped this one."""
    if not isinstance(stopped, BudgetReachedError):
        return None
    usd_key = "budget.max_cost_total_usd" if stopped.budget == TOTAL else "budget.max_cost_usd"
    keys = {"nano_usd": usd_key, "tokens": "budget.max_tokens", "requests": "budget.max_requests"}
    return keys.get(stopped.what)  # none for time: each run has its own


def _priced_by(job: Job) -> str:
    """What predictions follow from: what was learned of others says nothing."""
    config = job.config
    words = (config.config_hash(), config.request.model_family, config.prices.model_dump_json(), config.catalogue.file)
    return hashlib.sha256(repr(words).encode()).hexdigest()


def _amounts(totals: Totals) -> Amounts:
    return Amounts(nano_usd(totals.spent_usd), totals.tokens, totals.requests)


def _listed(amounts: Amounts) -> Sequence[int | None]:
    return amounts.nano_usd, amounts.tokens, amounts.requests


def _beyond(spent_usd: Decimal, most_usd: Decimal | None) -> str:
    if most_usd is None or spent_usd <= most_usd:
        return ""
    return f", {dollars(spent_usd - most_usd)} too much: answers were billed for more than was predicted"


def _left(stats: RunStats, totals: Totals) -> list[str]:
    """What is left undone, and about what it would cost."""
    if stats.total is None:
        return []
    left, paid = stats.total - stats.done, totals.records - totals.deduplicated
    words = f"{left:,} of {stats.total:,} {stats.unit}s remain"
    if totals.cost_usd and paid:
        words += f", about {dollars(totals.cost_usd / paid * left)}"
    return [words]
