"""What a run does otherwise with one kind of endpoint than with a chat model: data, which its adapter holds."""

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The defaults are those of a chat model."""

    columns: tuple[str, ...] = ()
    """Columns of `data/` that exist for this kind only, entries of `COLUMNS` with `only_where_given`."""
    bills_pages: bool = False
    """Whether it bills pages: an image is one. No tokens are predicted, and no price by token counts."""
    max_images: int | None = None
    """Images that one request holds; None: as the catalogue has it."""
    takes_documents: bool = True
    """Whether a PDF may be sent whole."""
    model: str | None = None
    """What rows and prices call it where its requests name no model."""


@runtime_checkable
class HasTraits(Protocol):
    """An adapter that is not like a chat model."""

    @property
    def traits(self) -> Traits: ...


OF_CHAT: Final = Traits()
