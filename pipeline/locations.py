"""Where images are: made by a source, opened by `images.locate` or, where they are remote, by `images.fetch`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LocalFile:
    """An image in a file of this machine. Bytes of `path` that are not UTF-8 stand as surrogate escapes."""

    name: str
    """The image as the source names it, printable and without secrets; so in every location."""
    path: str

    is_remote: ClassVar[bool] = False
    """Whether the image is fetched over the network before it is prepared; so in every location."""

    @property
    def held_bytes(self) -> int:
        """Memory that a record holds for the location, roughly; so in every location."""
        return len(self.path)


@dataclass(frozen=True, slots=True)
class ConfinedFile:
    """An image in a file that is opened only where it is below a folder, once all links are followed."""

    name: str
    path: str
    below: str
    """The folder, without any link in its path; one value for all images of a source."""

    is_remote: ClassVar[bool] = False

    @property
    def held_bytes(self) -> int:
        return len(self.path)


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """An image behind an address with a scheme. `url` may hold a signature or a login, `name` holds neither."""

    name: str
    url: str
    is_trusted: bool = False
    """Whether the user named it on the command line, so that its host may be private."""

    is_remote: ClassVar[bool] = True

    @property
    def held_bytes(self) -> int:
        return len(self.url)


@dataclass(frozen=True, slots=True)
class DataUrl:
    """An image inside a `data:` URL (RFC 2397)."""

    name: str
    url: str

    is_remote: ClassVar[bool] = False

    @property
    def held_bytes(self) -> int:
        return len(self.url)


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryImage:
    """An image that the calling program holds. `read` returns its bytes as a file, made when they are needed."""

    name: str
    read: Callable[[], bytes]
    size_bytes: int
    """An upper bound of the memory that `read` takes."""
    is_pdf: bool = False

    is_remote: ClassVar[bool] = False
    held_bytes: ClassVar[int] = 0
    """The image belongs to the caller, whose memory it takes anyway."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """An image in a tar that is not packed: a stretch of bytes of the file at `path`, read where it lies."""

    name: str
    path: str
    offset: int
    size: int
    version: tuple[int, ...] | None = None
    """Of the tar when its headers were read: in a tar that has changed since, other bytes may lie there."""
    held: object = field(default=None, compare=False)
    """What must live as long as the tar is read: the tar may be a temporary file."""

    is_remote: ClassVar[bool] = False

    @property
    def held_bytes(self) -> int:
        return len(self.name) + len(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedImage:
    """An image that a table or a packed tar holds. No record carries its bytes: they are read when it is prepared."""

    name: str
    path: str
    """Of the file that holds it."""
    read: Callable[[], bytes]
    """Called by any thread, best in the order of the file. Raises OSError, and ValueError for what is damaged."""
    size: int | None = None
    """None where it is known only once it is read."""

    is_remote: ClassVar[bool] = False

    @property
    def held_bytes(self) -> int:
        return len(self.name) + len(self.path)


Document = LocalFile | InMemoryImage
"""A file whose pages can be records of their own."""


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """One page of a PDF, which is rendered as an image."""

    name: str
    """The name of the document, and its page: `scan.pdf#page=1`."""
    document: Document
    """One value for all pages of a document."""
    page: int
    """From 1."""

    is_remote: ClassVar[bool] = False

    @property
    def held_bytes(self) -> int:
        return len(self.name) + self.document.held_bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the images of one source are, in words that still hold from another working directory."""

    source: str
    """As the user wrote it, without secrets."""
    folders: tuple[str, ...] = ()
    """Absolute: the names of images begin in one of them."""
    roots: tuple[str, ...] = ()
    """Absolute: folders whose images are all read."""
    files: tuple[str, ...] = ()
    """Absolute: tables that may hold images themselves."""
    address: str | None = None
    """Of a manifest from elsewhere: the names of images are relative to it."""


Location = LocalFile | ConfinedFile | ImageUrl | DataUrl | InMemoryImage | TarMember | EmbeddedImage | DocumentPage
