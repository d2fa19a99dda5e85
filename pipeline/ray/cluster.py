"""The Ray cluster of a run: found or started, and left again."""

import io
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

import anyio.to_thread

from pipeline.config.cluster import ClusterConfig
from pipeline.config.extras import RAY_HINT, has_ray_extra
from pipeline.errors import InputError, ResourceError

NAMESPACE = "vision-batch"
CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connection to a cluster; `ray` is the package."""

    ray: Any
    cpus: int
    """Of each shard."""

    @property
    def tasks(self) -> int:
        """Shards that can be at work at a time, as far as cores go."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)) // self.cpus)

    @property
    def nodes(self) -> int:
        return sum(1 for node in self.ray.nodes() if node["Alive"])


@asynccontextmanager
async def connected(config: ClusterConfig) -> AsyncIterator[Cluster]:
    """Connect as long as it lasts; a program that has connected to Ray itself stays connected.

    Raises InputError where Ray is not installed, or a shard needs more cores than any node has; ResourceError where
    there is no cluster at the address.
    """
    if not has_ray_extra():
        raise InputError(f"`engine.kind=ray`: {RAY_HINT}")
    ray = await anyio.to_thread.run_sync(_imported)
    if ray.is_initialized():
        _check_cores(ray, config.cpus)
        yield Cluster(ray, config.cpus)
        return
    with redirect_stdout(_WithoutRay(sys.stdout)):
        try:
            await anyio.to_thread.run_sync(_connect, ray, config.address)
            _check_cores(ray, config.cpus)
            yield Cluster(ray, config.cpus)
        finally:
            await anyio.to_thread.run_sync(ray.shutdown)


class _WithoutRay(io.TextIOBase):
    """Standard output, where JSON may go, without what a thread of Ray prints there of tasks that it starts again."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is None or threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        if self._stream is not None and not self._stream.closed:
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()


def _imported() -> Any:  # noqa: ANN401 - a package that may be missing
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent but to the endpoint
    import ray  # noqa: PLC0415 - a second of imports, for those who use it

    return ray


def _connect(ray: Any, address: str | None) -> None:  # noqa: ANN401 - the package
    named = address or os.environ.get("RAY_ADDRESS") or ""
    host, _, port = named.rpartition(":")
    try:
        if host and "://" not in named and port.isdecimal():
            # Ray itself would try for minutes, and print each time.
            socket.create_connection((host, int(port)), CONNECT_S).close()
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = named or "this machine"
        words = " ".join(str(error).split())[:300]
        raise ResourceError(f"no Ray cluster at {where}: {words}") from error


def _check_cores(ray: Any, cpus: int) -> None:  # noqa: ANN401 - the package
    most = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
    if most < cpus:
        raise InputError(
            f"`engine.cpus` is {cpus}, and no node of the Ray cluster has more than {most} cores: set it lower"
        )
