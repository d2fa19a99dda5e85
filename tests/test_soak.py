"""The short form of `make soak`."""

from pathlib import Path

from tests.soak import soak


def test_every_fault_at_once(tmp_path: Path) -> None:
    """Of 150 records all are answered, every request of the emulator's count is an attempt of the ledger's."""
    soaked = soak(150, tmp_path, latency_ms=10)
    assert soaked.by_status == {"ok": 150}
    assert soaked.requests == soaked.attempts > 150
