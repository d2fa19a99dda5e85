"""What Ray costs: one process with N decoding threads beside N workers of one core each, on one endpoint.

`python benchmarks/cluster.py [--photos 600] [--small 4000]` needs Ray, and takes some minutes.

Two kinds of work: photographs of 12 megapixels, which are decoded and resized, and small JPEGs, which are sent as they
are. Rates are of the whole run, its last merge included; what connecting to the cluster takes stands apart.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import SMALL, SMALL_QUALITY, cache_dir, clean_environment, draw_jpegs, endpoint, rows_over

PHOTO, PHOTO_QUALITY = (4000, 3000), 90
DRAWN = 64
STORE_BYTES = 80 << 20
SHARDS = 8


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[str]:
    """A head without cores for shards, and nodes of one core each; gives the address."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    os.environ.update(clean_environment() | {"RAY_USAGE_STATS_ENABLED": "0"})
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(workers):
            nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        yield str(nodes.address)
    finally:
        nodes.shutdown()  # type: ignore[no-untyped-call]


def run(manifest: Path, out: Path, url: str, *words: str) -> tuple[float, float]:
    """(images a second, seconds of the command beside them)"""
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        str(manifest),
        "-o",
        str(out),
        "--base-url",
        url,
        "--json",
        "-q",
    ]
    command += ["--model", "gpt-4o", "--no-dedup", "--concurrency", "64", *words]
    began = time.perf_counter()
    done = subprocess.run(command, env=clean_environment(), stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - began
    summary = json.loads(done.stdout)
    return summary["asked"] / summary["seconds"], seconds - summary["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--small", type=int, default=4000)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    cache = cache_dir(given.cache)
    kinds = {
        "12 megapixels": (draw_jpegs(cache / f"photos12mp-{DRAWN}", DRAWN, PHOTO, PHOTO_QUALITY), given.photos),
        "sent as they are": (draw_jpegs(cache / f"small-{DRAWN}", DRAWN, SMALL, SMALL_QUALITY), given.small),
    }
    lines = ["| images | workers | one process | Ray | of it | beside the run |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as scratch, endpoint(1) as url:
        for kind, (folder, rows) in kinds.items():
            manifest = rows_over(folder, rows, Path(scratch) / f"{folder.name}.jsonl")
            for workers in (1, 2):
                name = f"{folder.name}-{workers}"
                local, _ = run(manifest, Path(scratch) / name, url, "--set", f"images.threads={workers}")
                with cluster(workers) as address:
                    on_ray = ["--engine", "ray", "--shards", str(SHARDS), "--set", f"engine.address={address}"]
                    rate, beside = run(manifest, Path(scratch) / f"{name}-ray", url, *on_ray)
                rates = f"{local:,.0f}/s | {rate:,.0f}/s | {rate / local:.0%}"
                lines.append(f"| {rows:,} {kind} | {workers} | {rates} | {beside:.0f} s |")
                print(lines[-1], flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
