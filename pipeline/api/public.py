"""What `import pipeline` offers."""

from pipeline.api.datasets import compact, merge, rebuild, report
from pipeline.api.endpoints import check, check_endpoints, models
from pipeline.api.estimates import EstimateOptions, estimate
from pipeline.api.exports import ExportOptions, export
from pipeline.api.outputs import read, reviews, scan, status
from pipeline.api.progress import RunProgress
from pipeline.api.runs import RunOptions, dry_run, run, run_async
from pipeline.commands.check import CheckReport
from pipeline.commands.compact import CompactReport
from pipeline.commands.merged import MergeReport
from pipeline.commands.models import ModelCard
from pipeline.commands.rebuilt import RebuildReport
from pipeline.commands.status import OutStatus
from pipeline.config.cluster import ClusterConfig
from pipeline.config.images import ImagesConfig
from pipeline.config.limits import BudgetConfig, LimitsConfig
from pipeline.config.prices import CatalogueConfig, PricesConfig
from pipeline.config.prompts import MessageConfig, PromptConfig
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import (
    EndpointConfig,
    OutputConfig,
    RequestConfig,
    Settings,
    SourceConfig,
)
from pipeline.engine.hooks import Ask, Fail, OnAnswer
from pipeline.engine.stats import RunSummary
from pipeline.errors import (
    BudgetReachedError,
    CallbackError,
    DamagedLedgerError,
    EndpointStoppedError,
    InputError,
    InterruptedRunError,
    OutInUseError,
    ResourceError,
    VisionBatchError,
)
from pipeline.estimates.figures import Estimate
from pipeline.export.report import ExportReport
from pipeline.originals import Original, Originals
from pipeline.sources import SourceLike
from pipeline.sources.idlist import IdsLike
from pipeline.store.rerun import RerunPolicy

__all__ = [
    "Ask",
    "BudgetConfig",
    "BudgetReachedError",
    "CallbackError",
    "CatalogueConfig",
    "CheckReport",
    "ClusterConfig",
    "CompactReport",
    "DamagedLedgerError",
    "EndpointConfig",
    "EndpointStoppedError",
    "Estimate",
    "EstimateOptions",
    "ExportOptions",
    "ExportReport",
    "Fail",
    "IdsLike",
    "ImagesConfig",
    "InputError",
    "InterruptedRunError",
    "LimitsConfig",
    "MergeReport",
    "MessageConfig",
    "ModelCard",
    "OnAnswer",
    "Original",
    "Originals",
    "OutInUseError",
    "OutStatus",
    "OutputConfig",
    "PricesConfig",
    "PromptConfig",
    "RebuildReport",
    "RequestConfig",
    "RerunPolicy",
    "ResourceError",
    "RunConfig",
    "RunOptions",
    "RunProgress",
    "RunSummary",
    "Settings",
    "SourceConfig",
    "SourceLike",
    "VisionBatchError",
    "check",
    "check_endpoints",
    "compact",
    "dry_run",
    "estimate",
    "export",
    "merge",
    "models",
    "read",
    "rebuild",
    "report",
    "reviews",
    "run",
    "run_async",
    "scan",
    "status",
]
