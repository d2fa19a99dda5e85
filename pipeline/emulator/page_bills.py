"""Bills by page: what a response says of the pages that were read, and of their cost."""

from typing import Any, Final

from pipeline.emulator.faults import Fault

_PAGES_ERROR: Final = 10
_CREDITS_A_DOLLAR: Final = 2_000_000
"""AI/ML API, "Pricing"."""


def reported_pages(pages: int, fault: Fault | None) -> int:
    """What a response says of its pages, which a fault makes wrong."""
    return pages * (_PAGES_ERROR if fault is Fault.WRONG_USAGE else 1)


def meta_of(pages: int, usd_per_page: float | None) -> dict[str, Any]:
    """The cost as AI/ML API states it; nothing where a page has no price."""
    if usd_per_page is None:
        return {}
    spent = round(pages * usd_per_page, 9)
    return {"meta": {"usage": {"credits_used": round(spent * _CREDITS_A_DOLLAR), "usd_spent": spent}}}
