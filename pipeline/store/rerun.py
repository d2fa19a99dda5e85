"""Which records a second run asks again."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeVar

from pipeline.errors import ErrorKind, InputError
from pipeline.limits.decision import TRANSIENT
from pipeline.records import Status, is_unanswered

OnConfigChange = Literal["refuse", "keep", "refresh"]
Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunPolicy:
    """How a run chooses which records with a row it asks again."""

    retry_failed: bool = False
    """Rows without an answer."""
    retry_statuses: frozenset[Status] = frozenset()
    """Rows with one of these statuses."""
    retry_kinds: frozenset[ErrorKind] = frozenset()
    """Rows with one of these kinds, whatever their status; with `retry_statuses`, only rows that match both."""
    refresh: bool = False
    """Every row that this run has not answered."""
    refresh_changed: bool = False
    """Files whose size or time has changed since they were asked."""
    on_config_change: OnConfigChange = "refuse"

    @classmethod
    def parse(
        cls,
        *,
        retry_failed: bool = False,
        retry_kind: str | None = None,
        retry_status: str | None = None,
        refresh: bool = False,
        refresh_changed: bool = False,
        on_config_change: str = "refuse",
    ) -> "RerunPolicy":
        """From the values of the command line. Raises InputError that lists the known ones."""
        if on_config_change not in {"refuse", "keep", "refresh"}:
            raise InputError(f"`on_config_change=` {on_config_change!r}: refuse, keep or refresh")
        return cls(
            retry_failed=retry_failed,
            retry_statuses=_words("`retry_status=`", "status", retry_status, Status),
            retry_kinds=_words("`retry_kind=`", "kind", retry_kind, ErrorKind),
            refresh=refresh,
            refresh_changed=refresh_changed,
            on_config_change=on_config_change,  # type: ignore[arg-type] # one of the three, as just seen
        )

    @property
    def passes_over_rows(self) -> bool:
        """Whether a record that has a row, and did not fail for a transient reason, is never asked again."""
        retries = self.retry_failed or self.retry_statuses or self.retry_kinds
        return not (retries or self.refresh or self.refresh_changed or self.on_config_change == "refresh")

    def describe(self) -> str:
        """One line, equal for equal policies: an interrupted run continues only with the same one."""
        kinds = ",".join(sorted(self.retry_kinds))
        described = (
            f"retry_failed={self.retry_failed} kinds={kinds} refresh={self.refresh} changed={self.refresh_changed}"
        )
        return described + (f" statuses={','.join(sorted(self.retry_statuses))}" if self.retry_statuses else "")

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
        if not by_this_run and self._retries(status, kind):
            return True
        if self.on_config_change == "refresh" and not by_this_config:
            return True
        return (self.refresh and not by_this_run) or (self.refresh_changed and has_changed)

    def _retries(self, status: Status, kind: ErrorKind | None) -> bool:
        if self.retry_kinds and kind not in self.retry_kinds:
            return False
        if status in self.retry_statuses or (self.retry_failed and is_unanswered(status, kind)):
            return True
        return bool(self.retry_kinds) and not self.retry_statuses


def _words(flag: str, what: str, given: str | None, known: type[Word]) -> frozenset[Word]:
    """Names joined by commas. Raises InputError that lists the known ones."""
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    words: Iterable[Word] = list(known)
    if unknown := [name for name in names if name not in set(words)]:
        raise InputError(f"{flag} {unknown[0]!r}: no such {what}; known: {', '.join(words)}")
    return frozenset(known(name) for name in names)
