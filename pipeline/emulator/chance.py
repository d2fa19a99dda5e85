"""Seeded chance: what befalls request number N is a hash of the seed and N, and nothing else."""

from collections.abc import Mapping
from hashlib import blake2b

from pipeline.emulator.faults import Fault


def draw(seed: int, purpose: str, number: int) -> float:
    """An even draw from [0, 1), the same for the same arguments on every machine."""
    digest = blake2b(f"{seed}:{purpose}:{number}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def choose_fault(faults: Mapping[Fault, float], seed: int, number: int) -> Fault | None:
    """The fault that request `number` shows; each one's share of the requests is its rate."""
    if not faults:
        return None
    drawn = draw(seed, "fault", number)
    reached = 0.0
    for fault, rate in faults.items():
        reached += rate
        # The second condition keeps rates that add up to 1 from summing to 0.9999... in binary.
        if drawn < reached or (rate and reached >= 1 - 1e-9):
            return Fault(fault)
    return None


def delay_ms(latency_ms: float, jitter_ms: float, seed: int, number: int) -> float:
    """How long request `number` takes to be answered, in milliseconds."""
    return latency_ms + jitter_ms * draw(seed, "jitter", number)
