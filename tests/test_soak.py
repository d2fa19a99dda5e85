"""The short form of `make soak`."""

from pathlib import Path

from tests.soak import soak


def test_every_fault_at_once(tmp_path: Path) -> None:
    """Three hundred records: all answered, every request of the emulator's count is an attempt of the ledger's."""
    soaked = soak(300, tmp_path, latency_ms=10)
    assert soaked.by_status == {"ok": 300}
    assert soaked.requests == soaked.attempts > 300
