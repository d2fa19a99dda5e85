"""Which records are asked (again): what the options of a run say about a row that there is."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ErrorKind, InputError
from pipeline.policy.retry import TRANSIENT
from pipeline.records import Status

OnConfigChange = Literal["refuse", "keep", "refresh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The options of one run that decide which records are asked."""

    retry_failed: bool = False
    retry_kinds: frozenset[ErrorKind] = frozenset()
    """Only these kinds of failure; empty: all of them."""
    refresh: bool = False
    """Everything that this run has not answered itself."""
    refresh_changed: bool = False
    """Files whose size or time is not what it was when they were asked."""
    on_config_change: OnConfigChange = "refuse"

    @classmethod
    def parse(
        cls,
        *,
        retry_failed: bool = False,
        retry_kind: str | None = None,
        refresh: bool = False,
        refresh_changed: bool = False,
        on_config_change: str = "refuse",
    ) -> "Asking":
        """From the words of the command line. Raises InputError that lists what is known."""
        kinds = [name.strip() for name in (retry_kind or "").split(",") if name.strip()]
        if unknown := [name for name in kinds if name not in set(ErrorKind)]:
            raise InputError(f"--retry-kind {unknown[0]!r}: no such kind; known: {', '.join(ErrorKind)}")
        if on_config_change not in {"refuse", "keep", "refresh"}:
            raise InputError(f"--on-config-change {on_config_change!r}: refuse, keep or refresh")
        return cls(
            retry_failed=retry_failed or bool(kinds),
            retry_kinds=frozenset(ErrorKind(name) for name in kinds),
            refresh=refresh,
            refresh_changed=refresh_changed,
            on_config_change=on_config_change,  # type: ignore[arg-type] # one of the three, as just seen
        )

    @property
    def passes_over_rows(self) -> bool:
        """Whether a record that has a row, and did not fail for a transient reason, is never asked again."""
        return not self.retry_failed and self.passes_over_good_rows

    @property
    def passes_over_good_rows(self) -> bool:
        """The same of a record whose row holds an answer."""
        return not (self.refresh or self.refresh_changed or self.on_config_change == "refresh")

    def describe(self) -> str:
        """One line that is equal for runs that ask the same: an interrupted one goes on only as the same."""
        kinds = ",".join(sorted(self.retry_kinds))
        return f"retry_failed={self.retry_failed} kinds={kinds} refresh={self.refresh} changed={self.refresh_changed}"

    def wants(
        self,
        status: Status,
        kind: ErrorKind | None,
        *,
        by_this_run: bool,
        by_this_config: bool,
        has_changed: bool,
    ) -> bool:
        """Whether a record that has a row is asked again."""
        if status is Status.FAILED and kind in TRANSIENT:
            return True
        if self.retry_failed and not by_this_run and self._retries(status, kind):
            return True
        if self.on_config_change == "refresh" and not by_this_config:
            return True
        return (self.refresh and not by_this_run) or (self.refresh_changed and has_changed)

    def _retries(self, status: Status, kind: ErrorKind | None) -> bool:
        kinds: Collection[ErrorKind | None] = self.retry_kinds
        return status in {Status.FAILED, Status.INVALID} and (not kinds or kind in kinds)
