"""Where an OUT is that a call names: a directory, or an address in a bucket."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.api.paths import PathLike
from pipeline.cloud.stores import out_address
from pipeline.errors import BucketError, InputError, VisionBatchError

if TYPE_CHECKING:
    from pipeline.store.dataset import Dataset

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutPlace:
    """Where a run works, and how it ends."""

    out: Path
    address: str | None = None
    open_dataset: "Callable[..., Dataset] | None" = None
    finish: Callable[[], None] = lambda: None

    async def around(self, work: Callable[[], Awaitable[T]]) -> T:
        """Awaits the run, and then what is still on its way into the bucket."""
        try:
            done = await work()
        except BaseException as error:
            try:
                self.finish()
            except BucketError as failed:
                if isinstance(error, VisionBatchError) and str(failed) != str(error):
                    error.args = (*error.args, *failed.args)
            if (
                isinstance(error, InputError) and self.address is not None
            ):  # it is about OUT, by the name that was given
                error.args = tuple(str(line).replace(str(self.out), self.address) for line in error.args)
            raise
        try:
            self.finish()
        except BucketError as failed:
            failed.summary = done
            raise
        return done


@contextmanager
def opened_out(out: PathLike, state: PathLike | None, say: Callable[[str], None] | None) -> Iterator[OutPlace]:
    """Where a run on `out` works, held for the block where `out` is an address."""
    address = out_address(out)
    if address is None:
        if state is not None:
            raise InputError(f"`state={state}` is for an OUT in a bucket (s3://, gs://, az://), and {out} is none")
        yield OutPlace(Path(out))
        return
    from pipeline.buckets.place import held  # noqa: PLC0415 - most runs have no use for it

    with held(address, None if state is None else Path(state), say or _silent) as place:
        yield OutPlace(place.out, place.name, place.open_dataset, place.finish)


def _silent(_: str) -> None:
    """What is said to no user."""


def is_address(out: PathLike) -> bool:
    """Whether OUT lies in a bucket."""
    return out_address(out) is not None


def named(out: PathLike) -> str:
    """What OUT is called: an address, or its path."""
    return str(out_address(out) or Path(out))


def readable(out: PathLike) -> Path:
    """A directory with what `out` holds now. Raises InputError for an address without any output, ResourceError."""
    found = readable_if_any(out)
    if found is None:
        raise InputError(f"{named(out)}: no vision-batch output here (there is no journal)")
    return found


def readable_if_any(out: PathLike) -> Path | None:
    """The same; None for an address that no run has written to."""
    address = out_address(out)
    if address is None:
        return Path(out)
    from pipeline.buckets.reading import fetched  # noqa: PLC0415 - most commands have no use for it

    return fetched(address)


def local(out: PathLike, command: str) -> Path:
    """A directory. Raises InputError for an address, which the command does not take."""
    address = out_address(out)
    if address is None:
        return Path(out)
    raise InputError(
        f"{address}: `{command}` takes a directory of this machine. `vision-batch merge {address} -o DIR` makes one of "
        "what the bucket holds"
    )


def put_back(out: PathLike, place: Path) -> None:
    """What people have said of the answers in `place`, which `readable` gave, goes into the bucket too."""
    address = out_address(out)
    if address is not None:
        from pipeline.buckets.reading import upload_reviews  # noqa: PLC0415 - most commands have no use for it

        upload_reviews(address, place)
