"""WebDataset shards at addresses: each is copied into a temporary file when its turn comes."""

from collections.abc import Iterator

from pipeline.config.sections import SourceConfig
from pipeline.records import ImageRecord
from pipeline.sources.copies import Copy
from pipeline.sources.naming import public_address
from pipeline.sources.passed import PassedOver
from pipeline.sources.shards import Shard, label_of
from pipeline.sources.webdataset import ShardsSource


class RemoteShards(ShardsSource):
    """Shards behind `http(s)://`, or in a bucket. A copy is gone when no record of it is under way any more.

    They are read once a run: ids that stand twice show as the records come, and their number at the end.
    """

    is_manifest = False

    def __init__(self, addresses: list[str], config: SourceConfig, *, name: str) -> None:
        """`addresses` differ at least in their last name, which is what ids begin with."""
        shards = [Shard(address, label_of(public_address(address).rpartition("/")[2])) for address in addresses]
        super().__init__(shards, config, name=name)

    def ids(self) -> Iterator[str] | None:
        return None

    def _of_shard(self, shard: Shard, passed: PassedOver, *, extras: bool) -> Iterator[ImageRecord]:
        name = public_address(shard.path)
        copy = Copy(shard.path, self._config, name)
        yield from super()._of_shard(shard._replace(path=copy.path, name=name, held=copy), passed, extras=extras)
