"""What every client of the benchmarks shares, whatever is installed beside it: only the standard library, at first."""

import argparse
import base64
import io
import json
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

PROMPT = "Describe this image in one sentence."
MODEL = "gpt-4o"
MAX_TOKENS = 300
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One job, as its own process saw it; start-up and imports count for memory only."""

    images: int
    wall_s: float
    cpu_s: float
    """Of the process and all that it started."""
    peak_mb: float
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def images_per_s(self) -> float:
        return self.images / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU time an image, in milliseconds."""
        return 1000 * self.cpu_s / max(1, self.images)


@dataclass(frozen=True, slots=True)
class Job:
    """What a client is asked to do."""

    paths: tuple[Path, ...]
    out: Path
    base_url: str
    slots: int
    resize: bool
    rpm: int | None
    """The endpoint's limit, for clients that can be given one."""


def job(description: str | None) -> Job:
    """From the command line, which is the same for all clients."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("base_url")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--no-resize", action="store_true", help="the images are known to be small enough")
    parser.add_argument("--rpm", type=int, help="requests that the endpoint grants in a minute")
    given = parser.parse_args()
    paths = tuple(sorted(given.folder.iterdir()))
    return Job(paths, given.out, given.base_url, given.slots, not given.no_resize, given.rpm)


def target(width: int, height: int) -> tuple[int, int]:
    """Fit 2048 x 2048, then a short side of 768: what the model looks at."""
    scale = min(1.0, 2048 / max(width, height), 768 / min(width, height))
    return round(width * scale), round(height * scale)


def resized(path: Path) -> bytes:
    """As most scripts do it: decode, LANCZOS, encode."""
    from PIL import Image  # noqa: PLC0415 - most works and clients do without

    with Image.open(path) as image:
        buffer = io.BytesIO()
        small = image.convert("RGB").resize(target(*image.size), Image.Resampling.LANCZOS)
        small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def jpeg(path: Path, *, resize: bool) -> bytes:
    return resized(path) if resize else path.read_bytes()


def data_url(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def content(url: str) -> list[dict[str, object]]:
    """The question about one image, as Chat Completions takes it."""
    return [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}]


def descendants(pid: int) -> Iterator[int]:
    """The processes that `pid` started and that still live, and theirs."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from descendants(int(child))


def _ticks(pid: int) -> int:
    """CPU of a process and of the children that it waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def tree_cpu_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(map(_ticks, descendants(os.getpid()))) / TICKS_PER_S
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def peak_mb() -> float:
    """The most memory that this process has held. On Linux not `ru_maxrss`, which a child inherits."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(
    work: Callable[[], int] | Callable[[], None],
    answered: Callable[[], int] | None = None,
    packages: Sequence[str] = (),
) -> None:
    """Run `work` and print what it took, as one line of JSON.

    How many images were answered is what `answered`, which is not measured, or else `work` returns.
    """
    cpu_start, start = tree_cpu_s(), time.perf_counter()
    result = work()
    wall_s, cpu_s, peak = time.perf_counter() - start, tree_cpu_s() - cpu_start, peak_mb()
    images = answered() if answered else result or 0
    versions = {name: version(name) for name in packages}
    print("\n" + json.dumps(asdict(Measured(images, wall_s, cpu_s, peak, versions))), flush=True)
