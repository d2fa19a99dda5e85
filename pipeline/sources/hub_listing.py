"""The files of a dataset of the Hugging Face hub, in the order in which the hub lists them."""

import io
import json
from collections.abc import Iterator
from typing import Any, Final

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.http.download import download
from pipeline.http.hub import HubDataset, next_page
from pipeline.records import Failure
from pipeline.sources.naming import shown

_PAGE_BYTES: Final = 64 << 20
_LOGIN: Final = frozenset({401, 403, 404})


def hub_name(dataset: HubDataset) -> str:
    """What people call the dataset, or the part of it that is read."""
    return dataset.named(dataset.path).rstrip("/")


def hub_paths(dataset: HubDataset, config: SourceConfig) -> Iterator[str]:
    """The paths below that of `dataset`, without hidden ones. Raises InputError where the hub does not list them."""
    page: str | None = dataset.listing
    while page is not None:
        listed, page = _page(page, dataset, config)
        for one in listed:
            if one.get("type") == "file" and not any(part.startswith(".") for part in one["path"].split("/")):
                yield one["path"]


def _page(address: str, dataset: HubDataset, config: SourceConfig) -> tuple[list[Any], str | None]:
    buffer = io.BytesIO()
    link = download(address, buffer, _PAGE_BYTES, config)
    if isinstance(link, Failure):
        hint = "; a private dataset needs HF_TOKEN in the environment" if link.status in _LOGIN else ""
        raise InputError(f"{shown(hub_name(dataset))}: the hub does not list it: {link.message}{hint}")
    try:
        listed = json.loads(buffer.getvalue())
    except ValueError:
        listed = None
    if not (isinstance(listed, list) and all(isinstance(one, dict) and "path" in one for one in listed)):
        raise InputError(f"{shown(hub_name(dataset))}: the hub's answer is no list of files; check HF_ENDPOINT")
    return listed, next_page(link)
