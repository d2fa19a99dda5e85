"""Where the images of a source are, in a form that outlives the run: absolute folders and files, no secrets."""

import os
from collections.abc import Iterator

from pipeline.locations import Origin
from pipeline.sources.base import Source
from pipeline.sources.elsewhere import RemoteManifest
from pipeline.sources.folder import FolderSource
from pipeline.sources.formats import FORMATS, format_of
from pipeline.sources.joined import JoinedSource
from pipeline.sources.manifest import ManifestSource, StreamSource
from pipeline.sources.naming import public_address, shown
from pipeline.sources.single import ImageSource
from pipeline.sources.webdataset import ShardsSource
from pipeline.sources.wrapped import WrappedSource

_WITH_IMAGES_INSIDE = (FORMATS[".parquet"], FORMATS[".arrow"])


def origins(source: Source) -> Iterator[Origin]:
    """Those of a source, one for each that it joins. A pass over it has been made where it can be made twice."""
    if isinstance(source, JoinedSource):
        for one in source.sources:
            yield from origins(one)
    elif isinstance(source, WrappedSource):
        yield from origins(source.inner)
    else:
        yield _origin(source)


def _origin(source: Source) -> Origin:
    name, here = shown(source.name), os.getcwd()  # noqa: PTH109 - text, as all paths here
    if isinstance(source, RemoteManifest):
        return Origin(name, address=public_address(source.address))
    if isinstance(source, FolderSource):
        with_metadata = sorted(map(os.path.abspath, source.metadata_folders))
        return Origin(name, (here, *with_metadata), (os.path.abspath(source.root),))  # noqa: PTH100 - as above
    if isinstance(source, ManifestSource) and not isinstance(source, StreamSource):
        path = os.path.abspath(source.path)  # noqa: PTH100 - as above
        holds_images = format_of(path) in _WITH_IMAGES_INSIDE
        return Origin(name, (os.path.dirname(path),), files=(path,) if holds_images else ())  # noqa: PTH120 - as above
    if isinstance(source, StreamSource | ImageSource | ShardsSource):
        return Origin(name, (here,))
    return Origin(name)
