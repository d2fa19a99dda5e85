"""Work on a Ray cluster: runs in shards (`engine="ray"`), and captions in a pipeline of Ray Data (`Captioner`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.ray.captioner import Captioner

__all__ = ["Captioner"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of a module
    """Imports what is asked for: a run in one process needs nothing of it."""
    if name == "Captioner":
        from pipeline.ray.captioner import Captioner  # noqa: PLC0415 - as above

        return Captioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
