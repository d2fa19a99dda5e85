"""vision-batch: caption, label and price whole image datasets through any OpenAI-compatible vision endpoint."""

from pipeline import interrupts

if interrupts.is_our_command():
    interrupts.watch_interrupts()

from pipeline.api.datasets import compact, read, rebuild, status
from pipeline.api.endpoints import check, check_endpoints, models
from pipeline.api.estimates import estimate
from pipeline.api.runs import dry_run, run, run_async
from pipeline.engine.stats import RunSummary
from pipeline.errors import (
    BudgetReachedError,
    EndpointStoppedError,
    InputError,
    InterruptedRunError,
    ResourceError,
    VisionBatchError,
)
from pipeline.estimates.figures import Estimate
from pipeline.store.rerun import RerunPolicy

__all__ = [
    "BudgetReachedError",
    "EndpointStoppedError",
    "Estimate",
    "InputError",
    "InterruptedRunError",
    "RerunPolicy",
    "ResourceError",
    "RunSummary",
    "VisionBatchError",
    "check",
    "check_endpoints",
    "compact",
    "dry_run",
    "estimate",
    "models",
    "read",
    "rebuild",
    "run",
    "run_async",
    "status",
]
