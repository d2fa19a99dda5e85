"""The optional packages: whether they are installed, and how they are."""

from functools import cache
from importlib.util import find_spec

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv")
"""Files in a folder that count as videos; manifests may name any file."""
VIDEO_HINT = 'reading videos needs a package more: pip install "vision-batch[video]"'
"""The way out where PyAV is missing."""

PDF_SUFFIX = ".pdf"
"""Files in a folder that count as documents; a manifest may name any file."""
PDF_HINT = 'splitting PDFs into pages needs a package more: pip install "vision-batch[pdf]"'
"""The way out where pypdfium2 is missing."""

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
"""Files that count as photographs of phones; a manifest may name any file."""
HEIC_HINT = 'reading HEIC needs a package more: pip install "vision-batch[heic]"'
"""The way out where pi-heif is missing."""


@cache
def has_heic_extra() -> bool:
    """Whether pi-heif, which decodes HEIC, is installed. It is not imported."""
    return find_spec("pi_heif") is not None


CLOUD_SCHEMES = ("s3", "gs", "az")
"""Of object stores. Addresses with other schemes are fetched over HTTP, or are not."""
CLOUD_HINT = "object stores need a package more: pip install 'vision-batch[cloud]'"
"""The way out where obstore is missing."""


@cache
def has_cloud_extra() -> bool:
    """Whether obstore, which reads from object stores, is installed. It is not imported."""
    return find_spec("obstore") is not None


@cache
def has_pdf_extra() -> bool:
    """Whether pypdfium2, which counts and renders the pages of PDFs, is installed. It is not imported."""
    return find_spec("pypdfium2") is not None


@cache
def has_video_extra() -> bool:
    """Whether PyAV, which reads videos, is installed. It is not imported."""
    return find_spec("av") is not None


METRICS_HINT = 'writing metrics needs a package more: pip install "vision-batch[metrics]"'
"""The way out where prometheus-client is missing."""


@cache
def has_metrics_extra() -> bool:
    """Whether prometheus-client, which writes the figures of a run, is installed. It is not imported."""
    return find_spec("prometheus_client") is not None


RAY_HINT = 'working on a Ray cluster needs a package more: pip install "vision-batch[ray]"'
"""The way out where Ray is missing."""


@cache
def has_ray_extra() -> bool:
    """Whether Ray, which starts shards on the nodes of a cluster, is installed. It is not imported."""
    return find_spec("ray") is not None
