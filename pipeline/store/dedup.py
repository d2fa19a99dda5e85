"""Request deduplication: equal requests are asked once.

The record that is asked is the leader; the others are followers. The row of a follower takes its leader's answer when
it is sealed, and costs nothing.
"""

from collections.abc import Collection
from decimal import Decimal

from pipeline.errors import ErrorKind
from pipeline.records import Answer, Follower, Outcome, PreparedRequest, Status, Usage, record_key
from pipeline.store.columns import Column, RowOrigin, row_of, with_leader
from pipeline.store.ledger.protocol import CommittedRow, Leader, Ledger, StoredRecord
from pipeline.store.rows import encode_row
from pipeline.store.sealing import Sealer
from pipeline.store.selection import Selection
from pipeline.store.states import state_code, state_of
from pipeline.store.unchanged import Unchanged

SHAREABLE = frozenset({Status.OK, Status.TRUNCATED, Status.REFUSED})
"""Statuses of answers that followers may take."""

_NO_USAGE = Usage(prompt_tokens=0, cached_tokens=0, completion_tokens=0, reasoning_tokens=0, total_tokens=0)


class Deduplication:
    """The leaders of one run, and their followers."""

    def __init__(
        self, ledger: Ledger, selection: Selection, *, sealer: Sealer, is_on: bool = True, sees_changes: bool
    ) -> None:
        """`sees_changes`: the run asks files again that have changed, and so leaders under their followers.

        Without `is_on` no record follows another one.
        """
        self._ledger, self._selection, self._sealer = ledger, selection, sealer
        self._is_on, self._sees_changes = is_on, sees_changes
        self._unchanged = Unchanged(ledger, selection, sealer.data)
        self._leading: set[bytes] = set()
        self._leading_before: set[bytes] = set()
        """Leaders since the last seal, and between the two before: those whose answers may change under followers."""
        self._replaced: dict[tuple[bytes, str], dict[str, object]] = {}
        self._replaced_before: dict[tuple[bytes, str], dict[str, object]] = {}
        """Rows of such leaders from before they were asked again, by key and request."""

    def follow(self, request: PreparedRequest) -> Follower | None:
        """The request as a follower of a record that was answered for the same one; None where it must be asked.

        Where only the time of its file has changed it follows its own row.
        """
        own = record_key(request.record.id, request.prompt_name)
        if self._sees_changes and self._unchanged.is_only_newer(request):
            return _follower(request, own, Status.OK, None)
        if not self._is_on:
            return None
        found = self._ledger.leaders(request.request_sha256)
        leaders = (one for one in found if one.key != own and self._may_lead(one))
        leader = next(leaders, None)
        if leader is not None and leader.run != self._ledger.run and self._selection.is_renewed(own):
            leader = next((one for one in leaders if one.run == self._ledger.run), None)
        if leader is None:
            return None
        if self._sees_changes:
            self._leading.add(leader.key)
        status, kind = state_of(leader.state)
        return _follower(request, leader.key, status, kind)

    def _may_lead(self, leader: Leader) -> bool:
        """Whether followers may take its answer: not where this run asks it again."""
        status, _ = state_of(leader.state)
        stored = StoredRecord(leader.key, leader.state, leader.run, None)
        return status in SHAREABLE and not self._selection.asks_again(stored, is_comparable=True)

    def before_commit(self, keys: Collection[bytes]) -> None:
        """Save the rows of leaders that this commit replaces: their followers take the answers from before."""
        leading = self._leading | self._leading_before
        if not leading or not (replaced := leading.intersection(keys)):
            return
        self._sealer.seal()  # not `after_seal`: the leaders of a while ago still count
        for key, row in self._sealer.rows_of(replaced):
            self._replaced[key, str(row["request_sha256"])] = dict(row)

    def after_seal(self) -> None:
        """Forget leaders from before the last seal but one."""
        self._leading, self._leading_before = set(), self._leading
        self._replaced, self._replaced_before = {}, self._replaced

    def row(self, follower: Follower, origin: RowOrigin, columns: tuple[Column, ...]) -> CommittedRow:
        """The row of a follower: without tokens and cost, and without its answer unless the leader's row is saved."""
        outcome = Outcome(
            record=follower.record,
            prompt_name=follower.prompt_name,
            result=Answer(status=follower.status, caption=None),
            image_facts=follower.image_facts,
            request_sha256=follower.request_sha256,
            usage=_NO_USAGE,
            cost_usd=Decimal(0),
        )
        row = row_of(outcome, origin, columns)
        place = follower.key, follower.request_sha256
        leader = self._replaced.get(place) or self._replaced_before.get(place)
        return CommittedRow(
            record_key(follower.record.id, follower.prompt_name),
            state_code(follower.status, follower.error_kind),
            encode_row(row if leader is None else with_leader(row, leader)),
            stamp=follower.stamp,
            request_sha256=follower.request_sha256,
            leader=follower.key if leader is None else None,
        )


def _follower(request: PreparedRequest, key: bytes, status: Status, kind: ErrorKind | None) -> Follower:
    return Follower(
        record=request.record,
        prompt_name=request.prompt_name,
        image_facts=request.image_facts,
        request_sha256=request.request_sha256,
        key=key,
        status=status,
        error_kind=kind,
    )
