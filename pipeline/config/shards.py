"""One shard of N: which names and records belong to it, and its share of what all of them have together."""

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

MOST_SHARDS = 100_000
"""More than any scheduler starts as one array."""


@dataclass(frozen=True, slots=True)
class SourceShard:
    """`index` of `count`, from 0. The same name is in the same shard on every machine and in every run."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str | None) -> Self | None:
        """From `I/N`; None where there is one shard, which has everything. Raises ValueError."""
        if text is None:
            return None
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise ValueError("write I/N, the number of this shard, from 0, and the number of all: 0/8 to 7/8")
        index, count = int(found[1]), int(found[2])
        if not 1 <= count <= MOST_SHARDS:
            raise ValueError(f"N is {count:,}; it is the number of shards, from 1 to {MOST_SHARDS:,}")
        if index >= count:
            raise ValueError(f"shards count from 0: the first of {count:,} is 0/{count}, the last {count - 1}/{count}")
        return None if count == 1 else cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, name: str) -> bool:
        """Whether a file of this name, or a record with this id, belongs to this shard."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.index

    def part_of(self, whole: int) -> int:
        """The share of a whole number: those of all shards come to exactly that number."""
        return whole // self.count + (self.index < whole % self.count)

    def usd_of(self, whole: Decimal) -> Decimal:
        """The share of an amount of dollars, which is counted in nano-dollars."""
        return Decimal(self.part_of(int(whole.scaleb(9)))).scaleb(-9)


def shard_text(text: str) -> str:
    """The setting as it is written down. Raises ValueError."""
    text = text.strip()
    SourceShard.of(text)
    return "/".join(str(int(number)) for number in text.split("/"))
