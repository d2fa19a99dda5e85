"""An output directory whose commits, seals and leases go on to a bucket."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pipeline.buckets.uploads import Uploads
from pipeline.errors import ResourceError
from pipeline.limits.budget import Amounts
from pipeline.store.dataset import Dataset
from pipeline.store.ledger.sqlite import SqliteLedger


class BucketDataset(Dataset):
    """A `Dataset` in a state directory. Where uploads fail its methods raise BucketError: the run stops."""

    _uploads: Uploads

    def __init__(self, *args: Any, **given: Any) -> None:  # noqa: ANN401 - of `Dataset`
        """A part in a bucket does not grow: a reader who is about to read it would meet two of its versions."""
        super().__init__(*args, **given)
        self._sealer.fills_parts = False

    @classmethod
    def open_for(cls, uploads: Uploads, out: Path, **given: Any) -> Self:  # noqa: ANN401 - of `Dataset.open`
        """`Dataset.open`, and the first upload."""
        dataset = cls.open(out, failpoint=uploads.step, **given)
        try:
            dataset.begin_uploads(uploads)
        except BaseException:
            Dataset.close(dataset, seal=False)
            raise
        return dataset

    def begin_uploads(self, uploads: Uploads) -> None:
        """Once, before anything is asked."""
        self._uploads = uploads
        uploads.begin(self._live)

    @property
    def _live(self) -> SqliteLedger:
        if not isinstance(self._ledger, SqliteLedger):
            raise TypeError("an OUT in a bucket has a ledger of its own")
        return self._ledger

    def seal(self) -> int:
        sealed = super().seal()
        self._uploads.sealed(self._live)
        return sealed

    def lease(self, amounts: Amounts) -> None:
        """Stored here and in the bucket, before it is spent."""
        super().lease(amounts)
        self._uploads.publish(self._live)

    def write_status(self, status: Mapping[str, object]) -> None:
        super().write_status(status)
        self._uploads.tick(self._live)

    def close(self, *, seal: bool = True) -> None:
        """Release the state directory. What it holds is on its way into the bucket then."""
        if not self._is_open:
            return
        try:
            if seal:
                Dataset.seal(self)
                self.settle_lease()
            with suppress(ResourceError):  # a ledger that cannot be read: the run has said so
                self._uploads.last(self._live)
        finally:
            super().close(seal=False)
