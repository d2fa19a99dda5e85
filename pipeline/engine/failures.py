"""Failures of records that never failed before, one after the other: whether an endpoint fails for every record."""

from dataclasses import dataclass, field

from pipeline.engine.stages import RequestState

RECORDS_IN_A_ROW = 8
"""Records whose first request fails, with no answer between them, that open the circuit; without it an outage would
cost every record all its attempts.
"""


@dataclass(slots=True)
class FirstFailures:
    """Records whose first request failed since the last answer."""

    records: list[RequestState] = field(default_factory=list)
    since: float = 0.0
    """When the first of these requests was sent."""

    def add(self, state: RequestState, sent_at: float) -> None:
        self.since = self.since if self.records else sent_at
        self.records.append(state)

    @property
    def are_many(self) -> bool:
        return len(self.records) >= RECORDS_IN_A_ROW

    def clear(self, *, forgets: bool = False) -> None:
        """Begin anew; with `forgets` none of the records has lost an attempt."""
        for each in self.records if forgets else ():
            each.failures = 0
        self.records.clear()
