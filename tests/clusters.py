"""A small Ray cluster on this machine for tests: one head, and nodes that may be killed."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

STORE_BYTES = 80 << 20
NEEDED = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_TMPDIR": "/tmp"}  # noqa: S108 - names of sockets are short


def needs_ray() -> None:
    """Skips the test where Ray is not installed; where nothing may be missing, the test fails."""
    if find_spec("ray") is not None:
        return
    message = 'Ray is not installed (pip install "vision-batch[ray]")'
    if os.environ.get("NOTHING_IS_MISSING") == "1":
        pytest.fail(message)
    pytest.skip(message)


class RayCluster:
    """Several nodes, each with its own worker processes, as several `ray start` make them."""

    def __init__(self, cores: Sequence[int]) -> None:
        """The first node is the head; it has no cores for shards where its number is 0."""
        from ray.cluster_utils import Cluster  # noqa: PLC0415 - heavy, and may be missing

        self._options: dict[str, Any] = {"object_store_memory": STORE_BYTES}
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={**self._options, "num_cpus": cores[0], "include_dashboard": False},
        )
        self.address = str(self._cluster.address)
        self.nodes = [self.add_node(each) for each in cores[1:]]

    def add_node(self, cores: int) -> Any:
        return self._cluster.add_node(num_cpus=cores, **self._options)

    def kill_node(self, node: Any) -> None:
        """At once: neither the node nor its workers say anything."""
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def cluster(*cores: int) -> Iterator[RayCluster]:
    """A cluster for the length of the block. Its workers import the package that is tested."""
    before = dict(os.environ)
    os.environ.update({**NEEDED, "PYTHONPATH": str(ROOT)})
    made = None
    try:
        made = RayCluster(cores)
        yield made
    finally:
        os.environ.clear()
        os.environ.update(before)
        if made is not None:
            made.close()


def workers_at(place: Path) -> list[int]:
    """The processes that hold the ledger of a shard below this folder: workers in the middle of a shard."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
            if any(link.startswith(f"{place}/") and link.endswith("ledger.sqlite") for link in links):
                found.append(int(process.name))
    return found


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
