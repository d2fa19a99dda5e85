"""Which records a second run asks again."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from pipeline.errors import ErrorKind, InputError
from pipeline.limits.decision import TRANSIENT
from pipeline.records import Status, is_unanswered
from pipeline.store.expression import parse as parse_where

OnConfigChange = Literal["refuse", "keep", "refresh"]
Word = TypeVar("Word", bound=StrEnum)


class Ids(Protocol):
    """Ids of records, which can be read any number of times."""

    @property
    def digest(self) -> str:
        """Equal for the same ids, whatever their order."""

    def __iter__(self) -> Iterator[str]:
        """Every id, as the column `id` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What is known of one record that has a row."""

    by_this_run: bool
    by_this_config: bool
    has_changed: bool
    is_where: bool = True
    """Whether `retry_where` is true for its row, as it was when the run began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunPolicy:
    """How a run chooses which records with a row it asks again."""

    retry_failed: bool = False
    """Rows without an answer."""
    retry_statuses: frozenset[Status] = frozenset()
    """Rows with one of these statuses."""
    retry_kinds: frozenset[ErrorKind] = frozenset()
    """Rows with one of these kinds, whatever their status; with `retry_statuses`, only rows that match both."""
    retry_where: str | None = None
    """Rows for which this SQL condition is true; with the words above, only rows that match both."""
    only: Ids | None = None
    """No other records than these; without further words all of them, with a row or without."""
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
        retry_where: str | None = None,
        only: Ids | None = None,
        refresh: bool = False,
        refresh_changed: bool = False,
        on_config_change: str = "refuse",
    ) -> "RerunPolicy":
        """From the values of the command line. Raises InputError that lists the known ones."""
        if retry_where is not None:
            with worded():
                parse_where(retry_where)
        if on_config_change not in {"refuse", "keep", "refresh"}:
            raise InputError(f"`on_config_change=` {on_config_change!r}: refuse, keep or refresh")
        return cls(
            retry_failed=retry_failed,
            retry_statuses=_words("`retry_status=`", "status", retry_status, Status),
            retry_kinds=_words("`retry_kind=`", "kind", retry_kind, ErrorKind),
            retry_where=retry_where,
            only=only,
            refresh=refresh,
            refresh_changed=refresh_changed,
            on_config_change=on_config_change,  # type: ignore[arg-type] # one of the three, as just seen
        )

    @property
    def passes_over_rows(self) -> bool:
        """Whether a record that has a row, and did not fail for a transient reason, is never asked again."""
        others = self.refresh or self.refresh_changed or self.on_config_change == "refresh"
        return not (self._chooses_rows or self.only is not None or others)

    @property
    def selects(self) -> bool:
        """Whether it names rows, so that another configuration can be asked about them and nothing else."""
        widens = self.only is None and (self.refresh or self.refresh_changed)
        return self.on_config_change == "refuse" and (self._chooses_rows or self.only is not None) and not widens

    @property
    def takes_all_named(self) -> bool:
        """Whether `only` stands without another word: its records are asked, with a row or without."""
        return self.only is not None and not (self._chooses_rows or self.refresh_changed)

    @property
    def is_by_state(self) -> bool:
        """Whether the status and the kind of a row decide alone."""
        others = self.refresh_changed or self.on_config_change == "refresh" or self.only is not None
        return self.retry_where is None and not others

    def describe(self) -> str:
        """One line, equal for equal policies: an interrupted run continues only with the same one."""
        kinds = ",".join(sorted(self.retry_kinds))
        described = (
            f"retry_failed={self.retry_failed} kinds={kinds} refresh={self.refresh} changed={self.refresh_changed}"
        )
        described += f" statuses={','.join(sorted(self.retry_statuses))}" if self.retry_statuses else ""
        described += "" if self.only is None else f" only={self.only.digest}"
        return described + ("" if self.retry_where is None else f" where={self.retry_where}")

    def wants(self, status: Status, kind: ErrorKind | None, known: Match, *, is_exclusive: bool = False) -> bool:
        """Whether a record that has a row is asked again; one that is not in `only` never is.

        `is_exclusive`: the run has another configuration than OUT, and asks the rows that are named, and no others.
        """
        is_named = self._retries(status, kind, is_where=known.is_where) or self.takes_all_named
        if status is Status.FAILED and kind in TRANSIENT and (not is_exclusive or is_named or known.by_this_run):
            return True
        if is_named and not known.by_this_run:
            return True
        if self.on_config_change == "refresh" and not known.by_this_config:
            return True
        return (self.refresh and not known.by_this_run) or (self.refresh_changed and known.has_changed)

    @property
    def _chooses_rows(self) -> bool:
        return self._has_words or self.retry_where is not None

    @property
    def _has_words(self) -> bool:
        return bool(self.retry_failed or self.retry_statuses or self.retry_kinds)

    def _retries(self, status: Status, kind: ErrorKind | None, *, is_where: bool) -> bool:
        if self.retry_where is not None:
            return is_where and (not self._has_words or self._has_word_for(status, kind))
        return self._has_word_for(status, kind)

    def _has_word_for(self, status: Status, kind: ErrorKind | None) -> bool:
        if self.retry_kinds and kind not in self.retry_kinds:
            return False
        if status in self.retry_statuses or (self.retry_failed and is_unanswered(status, kind)):
            return True
        return bool(self.retry_kinds) and not self.retry_statuses


@contextmanager
def worded() -> Iterator[None]:
    """What is wrong with a condition is said of `retry_where`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"`retry_where=`: {str(error).removeprefix('where: ')}") from None


def _words(flag: str, what: str, given: str | None, known: type[Word]) -> frozenset[Word]:
    """Names joined by commas. Raises InputError that lists the known ones."""
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    words: Iterable[Word] = list(known)
    if unknown := [name for name in names if name not in set(words)]:
        raise InputError(f"{flag} {unknown[0]!r}: no such {what}; known: {', '.join(words)}")
    return frozenset(known(name) for name in names)
