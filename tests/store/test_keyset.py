"""Keys in eight bytes: found where they are, and not where they are not."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.keyset import KeySet

KEYS = st.lists(st.binary(min_size=16, max_size=16), max_size=60, unique_by=lambda key: key[:8])


@given(KEYS, KEYS, st.integers(1, 7))
def test_it_holds_what_it_was_given_and_nothing_else(inside: list[bytes], others: list[bytes], chunk: int) -> None:
    """Any keys, in chunks of any size: those given are held, those whose first 8 bytes differ are not."""
    prefixes = sorted(key[:8] for key in inside)
    chunks = (b"".join(prefixes[start : start + chunk]) for start in range(0, len(prefixes), chunk))
    keys = KeySet(chunks)
    assert len(keys) == len(inside)
    assert keys.holds(inside) == [True] * len(inside)
    assert keys.holds(others) == [key[:8] in prefixes for key in others]


@pytest.mark.parametrize("count", [0, 1, 100_000])
def test_many_keys(count: int) -> None:
    """Hashes as the ledger has them, also none at all: every one is found, and of as many others none."""
    keys = [hashlib.blake2b(str(number).encode(), digest_size=16).digest() for number in range(2 * count + 1)]
    held = KeySet(iter(sorted(key[:8] for key in keys[:count])))
    assert held.holds(keys) == [True] * count + [False] * (count + 1)
    assert held.holds([]) == []
