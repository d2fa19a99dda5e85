"""`Captioner`: captions and labels for the rows of a dataset of Ray Data, beside other steps of a pipeline."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Unpack

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from pipeline.config.keywords import resolve
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Settings
from pipeline.errors import ErrorKind, InputError
from pipeline.labels.arrow import type_of
from pipeline.ray.standing import Row, StandingEngine
from pipeline.records import Failure, Outcome
from pipeline.sources.inmemory import InMemorySource
from pipeline.store import schemas
from pipeline.store.columns import COLUMNS, RowOrigin

RESULTS: Final = (
    "status", "caption", "captions", "labels", "flags", "model", "finish_reason", "request_id", "prompt_tokens",
    "completion_tokens", "reasoning_tokens", "cost_usd", "attempts", "latency_s", "error_kind", "error_message",
)  # fmt: skip
"""The columns that are added, with the types that they have in `data/`."""


class Captioner:
    """Asks an endpoint about the images of a column, in batches: `ds.map_batches(pipeline.ray.Captioner, ...)`.

    `image` names the column: bytes of files, arrays of pixels, or paths and addresses. Other columns of text and
    numbers can be named in the prompt's template. All other keywords are those of `pipeline.run`. The columns of the
    answer are added, each with `prefix` before its name; a row without an answer says why in `error_kind`.

    All captioners of a Ray cluster that ask the same endpoints with the same limits keep to these together. What is
    answered is in the dataset only: a pipeline that fails asks again.

    Raises:
        InputError: a setting is wrong.
        EndpointStoppedError, BudgetReachedError: no row of the batch can be answered any more.
    """

    def __init__(
        self,
        *,
        image: str = "image",
        prefix: str = "",
        config: str | RunConfig | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        resolved = resolve(config, settings)
        if len(resolved.prompt_names) > 1:
            raise InputError("a Captioner asks one prompt; take one for each of `[[prompts]]`")
        self._image, self._prefix = image, prefix
        self._config = resolved
        self._columns = _columns_of(resolved)
        self._engine = StandingEngine(resolved)

    def __call__(self, batch: Any) -> Any:  # noqa: ANN401 - of any format of Ray Data
        """The batch with the columns of the answers; a row that fails never fails the others."""
        outcomes = self._engine.ask(list(self._rows(batch)))
        found = {f"{self._prefix}{name}": self._column(name, kind, outcomes) for name, kind in self._columns.items()}
        if isinstance(batch, pa.Table):
            kept = batch.drop_columns([name for name in found if name in batch.column_names])
            names = [*kept.column_names, *found]
            return pa.Table.from_arrays([*kept.columns, *found.values()], names=names)
        if isinstance(batch, pd.DataFrame):
            typed = {name: pd.Series(pd.array(one, dtype=pd.ArrowDtype(one.type))) for name, one in found.items()}
            return batch.assign(**{name: series.set_axis(batch.index) for name, series in typed.items()})
        return {**batch, **found}

    def close(self) -> None:
        """Requests in flight come home; a worker of Ray that ends needs no such call."""
        self._engine.close()

    def _column(self, name: str, kind: pa.DataType, outcomes: Sequence[Outcome]) -> pa.Array:
        column = next(one for one in COLUMNS if one.name == name)
        origin = RowOrigin(endpoint="", run_id="", config_hash=self._config.config_hash())
        return pa.array([column.value(outcome, origin) for outcome in outcomes], kind)

    def _rows(self, batch: Any) -> Iterator[Row]:  # noqa: ANN401 - as above
        """Each row as a record, or what is wrong with it."""
        columns = _by_name(batch)
        if self._image not in columns:
            known = ", ".join(map(str, columns))
            raise InputError(f"there is no column {self._image!r}; the dataset has {known}. Name it: image=NAME")
        others = {name: column for name, column in columns.items() if name != self._image}
        source = self._config.source.model_copy(update={"image_column": self._image, "id_column": None})
        for at, image in enumerate(columns[self._image]):
            texts = {name: plain for name, column in others.items() if (plain := _plain(column[at])) is not None}
            try:
                row = {**texts, self._image: _image(image)}
                yield next(iter(InMemorySource([row], source).records()))
            except (InputError, ValueError, TypeError) as error:
                words = str(error).partition(": record 1: ")
                yield Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=words[2].partition("; fix")[0] or str(error))


def _columns_of(config: RunConfig) -> dict[str, pa.DataType]:
    """The columns that are added, and their types."""
    request = config.requests[0]
    labels = None if request.labels is None else type_of(request.labels)
    schema = schemas.schema(choices=request.choices, labels=labels)
    return {name: schema.field(name).type for name in RESULTS if name in schema.names}


def _by_name(batch: Any) -> Mapping[str, Any]:  # noqa: ANN401 - of any format of Ray Data
    if isinstance(batch, pa.Table):
        return {name: _values(batch[name]) for name in batch.column_names}
    if isinstance(batch, pd.DataFrame):
        return {str(name): batch[name].to_list() for name in batch.columns}
    return dict(batch)


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    """Python values; arrays of pixels, which are a type of Ray's, as arrays."""
    if isinstance(column.type, pa.BaseExtensionType):
        return [each for chunk in column.chunks for each in chunk.to_numpy(zero_copy_only=False)]
    values: list[Any] = column.to_pylist()
    return values


def _image(value: object) -> object:
    """What `InMemorySource` takes: pixels as an image of Pillow."""
    if not isinstance(value, np.ndarray):
        return value
    pixels = value.squeeze(-1) if value.ndim == 3 and value.shape[-1] == 1 else value  # noqa: PLR2004 - height, width, channels
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    elif np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"an array of {pixels.dtype}, and pixels are 8 or 16 bits: convert it with its own range")
    return Image.fromarray(pixels)


def _plain(value: object) -> object:
    """A text or a number for templates; None for anything else."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | bool) else None
