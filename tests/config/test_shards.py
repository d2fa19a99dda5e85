"""A shard of N: what is written, what belongs to it, and its share of numbers that all have together."""

from decimal import Decimal

import pytest

from pipeline.config.keywords import resolve
from pipeline.config.run_config import RunConfig
from pipeline.config.shards import SourceShard
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8/8", "the first of 8 is 0/8, the last 7/8"),
        ("-1/8", "write I/N"),
        ("3", "write I/N"),
        ("0/0", "N is 0"),
        ("1/1000000", "from 1 to 100,000"),
        ("", "write I/N"),
    ],
)
def test_what_is_no_shard(text: str, words: str) -> None:
    """Each mistake has one line that says what to write."""
    with pytest.raises(InputError, match=words):
        resolve(None, {"shard": text})


def test_a_shard_of_one_is_everything() -> None:
    """So that a script may be written for any N; and no shard changes what the model is asked."""
    assert resolve(None, {"shard": " 00/1 "}).source.own_shard is None
    assert resolve(None, {"shard": "03/08"}).source.shard == "3/8"
    assert resolve(None, {"shard": "3/8"}).config_hash() == RunConfig().config_hash()


@pytest.mark.parametrize("count", [2, 7, 8, 1000])
def test_shares_come_to_the_whole(count: int) -> None:
    """Of requests, tokens and nano-dollars, never more; each name is in exactly one shard, and about evenly."""
    shards = [SourceShard(index, count) for index in range(count)]
    for whole in (1, 600, 10**9 + 1):
        assert sum(shard.part_of(whole) for shard in shards) == whole
    for usd in (Decimal("0.000000001"), Decimal(10), Decimal("3.33")):
        assert sum((shard.usd_of(usd) for shard in shards), Decimal(0)) == usd
    names = [f"photos/{number}.jpg" for number in range(2000 if count < 10 else 50)]
    held = [sum(shard.holds(name) for name in names) for shard in shards]
    assert sum(held) == len(names)
    assert count > 10 or max(held) < 1.25 * len(names) / count


def test_a_name_keeps_its_shard() -> None:
    """The same on every machine and in every version: an array that goes on tomorrow finds its records."""
    names = ("00000.tar", "photos/für.jpg", "broken-\udcff.jpg", "")
    assert [next(n for n in range(1000) if SourceShard(n, 1000).holds(name)) for name in names] == PLACES


PLACES = [848, 418, 824, 876]
