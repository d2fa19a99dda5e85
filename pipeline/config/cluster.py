"""The settings of where a run works: `[engine]`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.sections import Section
from pipeline.config.setting import Setting
from pipeline.config.shards import MOST_SHARDS


class ClusterConfig(Section):
    """Where the work is done: in this process, or in shards on the nodes of a Ray cluster."""

    kind: Annotated[
        Literal["local", "ray"],
        Setting("Work in this process, or in shards on a Ray cluster.", keyword="engine", metavar="local|ray"),
    ] = "local"
    shards: Annotated[
        Annotated[int, Field(ge=1, le=MOST_SHARDS)] | None,
        Setting(
            "Parts that `engine.kind=ray` divides the source into.",
            keyword="shards",
            metavar="N",
            default_help="four for each task that the cluster has room for, at least eight",
        ),
    ] = None
    cpus: Annotated[
        int, Field(ge=1, le=1024), Setting("CPU cores of one shard on a Ray cluster, which are its decoding threads.")
    ] = 1
    address: Annotated[
        str | None,
        Setting(
            "The address of the Ray cluster.", default_help="RAY_ADDRESS, else the one on this machine, else a new one"
        ),
    ] = None
