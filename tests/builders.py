"""What many tests make: a run with the settings that tests have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pipeline


def ask(source: str | Path, url: str | Sequence[str], **more: Any) -> pipeline.RunSummary:
    """A run of `source` on the endpoint at `url` into `out`, silent. `more` are keywords of `pipeline.run`."""
    settings: dict[str, Any] = {"out": "out", "base_url": url, "model": "gpt-4o", "quiet": True}
    return pipeline.run(source, **{**settings, **more})
