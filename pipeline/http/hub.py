"""The Hugging Face hub: addresses of a dataset's files, and the token that goes to the hub alone."""

import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_ADDRESS: Final = re.compile(r"hf://datasets/([^/@\s]+/[^/@\s]+)(?:@([^/\s]+))?(?:/(.*))?", re.DOTALL)
_NEXT: Final = re.compile(r'<([^>]+)>\s*;[^,]*rel="?next"?')
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class HubDataset:
    """`hf://datasets/owner/name@revision/path`."""

    dataset: str
    revision: str
    path: str

    @classmethod
    def of(cls, address: str) -> "HubDataset | None":
        """None for what is no such address."""
        found = _ADDRESS.fullmatch(address)
        return None if found is None else cls(found[1], found[2] or "main", (found[3] or "").strip("/"))

    @property
    def listing(self) -> str:
        """The address of the first page of the files below the path, as JSON."""
        below = f"/{quote(self.path)}" if self.path else ""
        where = f"{quote(self.dataset)}/tree/{quote(self.revision, safe='')}{below}"
        return f"{hub_endpoint()}/api/datasets/{where}?recursive=true&limit={_PAGE}"

    def resolved(self, path: str) -> str:
        """The address of a file, over HTTP."""
        return f"{hub_endpoint()}/datasets/{quote(self.dataset)}/resolve/{quote(self.revision, safe='')}/{quote(path)}"

    def named(self, path: str) -> str:
        """What people call a file of it."""
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf://datasets/{self.dataset}{revision}/{path}"


def hub_endpoint() -> str:
    """The hub's address: `HF_ENDPOINT`, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_token() -> str | None:
    """`HF_TOKEN`, where it is set."""
    return os.environ.get("HF_TOKEN") or None


def next_page(link: str) -> str | None:
    """The next page that a `Link` header names, where it is of the hub itself."""
    found = _NEXT.search(link)
    return found[1] if found is not None and found[1].startswith(f"{hub_endpoint()}/") else None
