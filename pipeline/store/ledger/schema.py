"""The tables of the one current format of the ledger."""

import re

APPLICATION_ID = 0x56426174
FORMAT = 4
"""SQLite's `user_version`. Formats below were never released: nothing reads them. A change of a table adds 1."""
NEWER_FORMATS = 16
"""A format further than this above `FORMAT` comes from damage, not from a newer version."""

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE run (number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, config_hash TEXT NOT NULL,
    rerun TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE record (key16 BLOB PRIMARY KEY, part INTEGER NOT NULL, state INTEGER NOT NULL, run INTEGER NOT NULL,
    stamp INTEGER, request INTEGER) WITHOUT ROWID;
CREATE TABLE dedup (entry BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE answer (seq INTEGER PRIMARY KEY, key16 BLOB NOT NULL, part INTEGER NOT NULL, row BLOB NOT NULL,
    leader BLOB);
CREATE INDEX answer_part ON answer (part);
CREATE TABLE attempt (seq INTEGER PRIMARY KEY, key16 BLOB NOT NULL, run_id TEXT NOT NULL, at TEXT NOT NULL,
    bill BLOB NOT NULL);
CREATE INDEX attempt_key ON attempt (key16);
CREATE TABLE batch (id TEXT PRIMARY KEY, run_id TEXT NOT NULL, state TEXT NOT NULL, detail BLOB) WITHOUT ROWID;
CREATE TABLE event (seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL,
    detail BLOB);
CREATE TABLE total (scope TEXT, name TEXT, value INTEGER NOT NULL, PRIMARY KEY (scope, name)) WITHOUT ROWID;
"""
TABLE_NAMES = frozenset(re.findall(r"CREATE TABLE (\w+)", TABLES))
_HASH = re.compile(r"[0-9a-f]{64}")


def statements() -> list[str]:
    """The statements that make a new ledger. Not one script: `executescript` would commit."""
    tables = [statement for statement in TABLES.split(";") if statement.strip()]
    return [*tables, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {FORMAT}"]


# Ten million records stay under half a gigabyte: a record and its request take 51 bytes.


def hash_of(request_sha256: str | None) -> str | None:
    """The hash of a request; None where there is none, or damage made it something else."""
    return request_sha256 if request_sha256 is not None and _HASH.fullmatch(request_sha256) else None


def dedup_entry(request_sha256: str, key: bytes) -> bytes:
    """The first four bytes of a request's hash and of the key of the record that asked it."""
    return bytes.fromhex(request_sha256[:8]) + key[:4]


def request24(request_sha256: str) -> int:
    """The last 24 bits of a request's hash, which `dedup_entry` does not hold."""
    return signed24(int(request_sha256[-6:], 16))


def signed24(value: int) -> int:
    """The same 24 bits as SQLite stores in three bytes: with a sign."""
    return (value ^ 0x800000) - 0x800000


def footer_name(part: int) -> str:
    """The name under which `meta` holds the copy of a part's footer."""
    return f"footer {part}"
