"""The version of the package, and how it names itself to servers."""

from importlib import metadata
from typing import Final


def version() -> str:
    """Of the installed package."""
    try:
        return metadata.version("vision-batch")
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return "0"


USER_AGENT: Final = f"vision-batch/{version()}"
