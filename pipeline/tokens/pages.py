"""Where pages are billed and no tokens: an image has none, and is looked at as it is."""

from dataclasses import dataclass
from typing import ClassVar, Final

from pipeline.tokens.base import AUTO, TokenRange


@dataclass(frozen=True, slots=True)
class NoTokens:
    """The rule of endpoints whose bills count pages."""

    name: str = "pages"

    details: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[str] = AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:  # noqa: ARG002 - of any size
        return TokenRange.exactly(0)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:  # noqa: ARG002 - it has none
        return width, height


BY_PAGE: Final = NoTokens()
