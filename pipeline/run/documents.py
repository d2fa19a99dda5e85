"""Whole PDFs in a run: nothing predicts their tokens, and what follows from that."""

from typing import Final
from urllib.parse import urlsplit

from pipeline.catalogue import Family, host_of
from pipeline.config.extras import has_pdf_extra
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import traits_of
from pipeline.errors import ErrorKind, InputError
from pipeline.records import Failure, PreparedImage
from pipeline.sources import Source

MOST_TOKENS: Final = 1 << 20
"""More than a prompt may hold, for nearly all models: what a whole PDF reserves of an implied budget."""
_NOT_WHOLE: Final = "`request.task={task}` takes no whole PDF: send the pages as images"


def check_documents(config: RunConfig, source: Source) -> None:
    """Raises InputError where a budget is set that whole PDFs of the source could break, or where none can be sent."""
    budget, traits = _budget(config), traits_of(config)
    if not traits.takes_documents and source.has_documents:
        raise InputError(f"{_NOT_WHOLE.format(task=config.request.task)} (`source.pdf=pages`)")
    if budget is not None and source.has_documents and not (traits.bills_pages and has_pdf_extra()):
        raise InputError(
            f"`{budget}`: PDFs are sent whole, and their tokens are unknown before they are sent, so that this budget "
            "cannot be kept. Send their pages as images (`source.pdf=pages`), bound the number of requests instead "
            "(`budget.max_requests=N`), or leave PDFs out with a glob such as 'photos/*.jpg'"
        )


def document_flaw(document: PreparedImage, config: RunConfig, max_request_bytes: int | None) -> Failure | None:
    """Why a whole PDF is not sent, whatever names it."""
    if config.source.pdf == "pages":
        message = "this is a PDF, and with source.pdf = pages only those are split whose names end in .pdf: rename it"
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=message)
    budget, traits = _budget(config), traits_of(config)
    if not traits.takes_documents:
        message = f"{_NOT_WHOLE.format(task=config.request.task)} (source.pdf = pages)"
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=message)
    if budget is not None and not (traits.bills_pages and document.facts.pages is not None):
        message = f"this is a PDF: its tokens are unknown before it is sent, and {budget} is set"
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=message)
    sent = -(-len(document.data) // 3) * 4
    if max_request_bytes is not None and sent > max_request_bytes:
        message = f"{sent:,} bytes as base64 are more than the {max_request_bytes:,} that a request may have there"
        return Failure(kind=ErrorKind.REQUEST_TOO_LARGE, message=message)
    return None


def max_request_bytes(config: RunConfig, family: Family | None) -> int | None:
    """Of one request, by the model and by every endpoint's host; None where nothing is published."""
    names = {config.rules_host, *(urlsplit(one.base_url).hostname or "" for one in config.all_endpoints[1:])}
    hosts = [host_of(name) for name in names]
    found = [family.limits.max_request_bytes if family else None]
    found += [host.limits.max_request_bytes for host in hosts if host]
    return min((most for most in found if most is not None), default=None)


def _budget(config: RunConfig) -> str | None:
    """The first setting of a budget that depends on tokens."""
    names = ("max_cost_usd", "max_cost_total_usd", "max_tokens")
    return next((f"budget.{name}" for name in names if getattr(config.budget, name) is not None), None)
