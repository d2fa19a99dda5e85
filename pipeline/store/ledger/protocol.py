"""What a run asks of its ledger, and the values that pass between them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

CONFIG_META = "config "
"""The prefix of the names under which `meta` holds the identity of each configuration, by its hash."""
REHEARSAL_META = "rehearsal"
"""The name under which `meta` holds whether the rows are answers of the emulator: `YES` or `NO`."""
YES, NO = b"yes", b"no"
SHARDS_META = "merged_shards"
"""The name under which `meta` holds which shards were joined."""
SHARD_META = "shard"
"""The name under which `meta` holds which shard of a source an OUT is for: `I/N`; nothing for all of it."""


@dataclass(frozen=True, slots=True)
class CommittedRow:
    """One answered record. The ledger stores `row` as it is."""

    key: bytes
    state: int
    row: bytes
    stamp: int | None = None
    """24 bits that change with the size or the time of the source file; None where there is no file."""
    request_sha256: str | None = None
    shareable: bool = False
    """Whether records that make the same request may take this answer."""
    leader: bytes | None = None
    """The key of the record whose answer this row takes when it is sealed; None where the row has its own."""


class StoredRecord(NamedTuple):
    """A record that has a row: its state, and the number of the run that answered it last."""

    key: bytes
    state: int
    run: int
    stamp: int | None


class Leader(NamedTuple):
    """A record that was answered for the same request as another one makes."""

    key: bytes
    state: int
    run: int


@dataclass(frozen=True, slots=True)
class BillRow:
    """One attempt that was billed and gave no answer. The ledger stores `bill` as it is."""

    key: bytes
    at: str
    bill: bytes


class UnsealedRow(NamedTuple):
    """A committed row that no part holds yet. `leader` is as in `CommittedRow`."""

    seq: int
    row: bytes
    leader: bytes | None


class UnsealedRecord(NamedTuple):
    """The same with its record's key and stamp."""

    key: bytes
    row: bytes
    leader: bytes | None
    stamp: int | None


class Ledger(Protocol):
    """What a run asks of its ledger. Another implementation can answer on a cluster."""

    @property
    def path(self) -> Path:
        """The file, for messages."""

    @property
    def run(self) -> int:
        """The number of the run that was begun; 0 before that."""

    def begin_run(self, run_id: str, config_hash: str, rerun: str) -> str:
        """Begin a run, or continue the last one if it did not end and has the same `config_hash` and `rerun`.

        Returns the id of the run.
        """

    def end_run(self) -> None:
        """Mark the run as complete: the next command begins another."""

    def run_numbers(self) -> dict[str, int]:
        """The number of each run by its id."""

    def runs_with(self, config_hash: str) -> set[int]:
        """The numbers of the runs with this configuration."""

    def find(self, keys: Sequence[bytes]) -> dict[bytes, StoredRecord]:
        """The records among `keys` that have a row, whatever its status."""

    def parts_of(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The part of each of these records."""

    def leaders(self, request_sha256: str) -> Iterator[Leader]:
        """Records of all runs whose answer is to exactly this request; 64 at most."""

    def settled_prefixes(self, states: Collection[int]) -> Iterator[bytes]:
        """The first 8 bytes of the key of each record in one of these states, ascending, joined in chunks."""

    def stored_states(self) -> set[int]:
        """The states that records are in, from the records themselves; -1 where a key has not 16 bytes."""

    def commit(
        self,
        rows: Sequence[CommittedRow],
        *,
        new_parts: Sequence[int],
        counts: Mapping[str, int],
        bills: Sequence[BillRow] = (),
        meta: Mapping[str, bytes] | None = None,
        of_run: str | None = None,
    ) -> int:
        """Commit everything in one transaction. Returns the number of new records.

        `new_parts` holds the part of each new record, in order, as many as there are rows; a record that has a row
        keeps its part. `counts` are added to the totals of the run and of all runs. Bills of a record end with its
        row, which includes them. `of_run` names the run to count for, where it is not the one that was begun.
        """

    def set_stamps(self, stamps: Sequence[tuple[bytes, int | None]]) -> None:
        """(key, stamp) of records whose rows stay as they are."""

    def next_part(self) -> int | None:
        """A part with unsealed rows; None where there is none."""

    def unsealed(self) -> Iterator[UnsealedRecord]:
        """All unsealed rows, oldest first."""

    def unsealed_batches(self, part: int) -> Iterator[list[UnsealedRow]]:
        """The unsealed rows of `part`, oldest first, in batches bounded in rows and in bytes."""

    def unsealed_followers(self, part: int) -> Iterator[list[UnsealedRow]]:
        """Those of them that share a leader's answer, by the part of the leader: each is read once for many."""

    def unsealed_seqs(self, part: int) -> dict[bytes, int]:
        """Each record with unsealed rows of `part`, and the seq of its last row, which holds."""

    def unsealed_rows(self, keys: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """(key, row) of each of these records whose last row is unsealed and has an answer of its own."""

    def unsealed_parts(self) -> set[int]:
        """The parts with unsealed rows."""

    def mark_sealed(
        self, part: int, upto_seq: int, *, rows: int, forgotten: Sequence[bytes] = (), footer: bytes = b""
    ) -> None:
        """Delete the unsealed rows of `part` up to this one, which the part holds now.

        `rows` is the number of rows of the part, `footer` a copy of its footer. The records `forgotten` are deleted:
        the next run asks them.
        """

    def part_rows(self) -> dict[int, int]:
        """The rows that each part had when it was sealed; parts without rows may be left out."""

    def relocate(self, places: Iterable[tuple[bytes, int]], meta: Mapping[str, bytes]) -> None:
        """Replace the part of each of these (key, part), and store `meta`, in one transaction."""

    def bills(self) -> Iterator[BillRow]:
        """Billed attempts of records that have no row yet."""

    def counts(self, run_id: str | None = None) -> dict[str, int]:
        """The totals of one run, or of all."""

    def counts_with(self, config_hash: str) -> dict[str, int]:
        """The totals of all runs with this configuration."""

    def rows_by_config(self) -> dict[str, int]:
        """The number of records that each configuration answered last, by its hash; "" for unknown runs."""

    def states(self) -> dict[int, int]:
        """The number of records in each state."""

    def meta(self, name: str) -> bytes | None:
        """A stored value; None where there is none."""

    def meta_names(self, prefix: str) -> list[str]:
        """The names of stored values that begin with `prefix`."""

    def forget_meta(self, names: Sequence[str]) -> None:
        """Delete stored values."""

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        """Store values."""

    def note_events(self, kind: str, events: Mapping[str, bytes]) -> None:
        """Store events of the run that was begun, details by time; an event of the same time is replaced."""

    def events(self, kind: str) -> list[bytes]:
        """The details of the events of a kind, of all runs."""

    def close(self) -> None:
        """Release the file."""
