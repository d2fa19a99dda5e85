"""Files that change while a run reads them: no record gets the image of another one."""

import gzip
import io
import os
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from pipeline.files import CHANGED
from pipeline.images.locate import read_image
from pipeline.records import Failure, ImageRecord
from pipeline.sources import open_source
from tests.containers import table_bytes, tar_of

COUNT = 40


def picture(shade: int) -> bytes:
    """All are of one size."""
    buffer = io.BytesIO()
    Image.new("L", (32, 32), shade).save(buffer, "BMP")
    return buffer.getvalue()


def file_of(kind: str, *, is_reversed: bool) -> bytes:
    """The same ids in the same layout, with the images in their order or in the other."""
    shades = [COUNT - 1 - at if is_reversed else at for at in range(COUNT)]
    if kind in {"tar", "tar.gz"}:
        data = tar_of([(f"{at:02}.bmp", picture(shade)) for at, shade in enumerate(shades)])
        return gzip.compress(data, mtime=0) if kind == "tar.gz" else data
    rows = {"id": [f"{at:02}" for at in range(COUNT)], "image": [{"bytes": picture(shade)} for shade in shades]}
    return table_bytes(kind, pa.table(rows))


def answers(records: list[ImageRecord]) -> list[int | str]:
    """Of each record the shade of its image, or why there is none."""
    found: list[int | str] = []
    for record in records:
        data = read_image(record.images[0], 1 << 20)
        found.append(data.message if isinstance(data, Failure) else Image.open(io.BytesIO(data)).getpixel((0, 0)))  # type: ignore[arg-type]  # of one band
    return found


@pytest.mark.parametrize("how", ["written over", "replaced"])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "parquet", "arrow"])
def test_a_source_that_is_written_again(tmp_path: Path, kind: str, how: str) -> None:
    """Proves that equal sizes and a time that is set back hide no change: an image is the right one, or none."""
    path = tmp_path / f"a.{kind}"
    path.write_bytes(file_of(kind, is_reversed=False))
    times = path.stat()
    records = list(open_source(path).records())
    assert answers(records[:5]) == [0, 1, 2, 3, 4]
    new = path if how == "written over" else tmp_path / "new"
    new.write_bytes(file_of(kind, is_reversed=True))
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(path)
    after = answers(records[5:])
    right = list(range(5, COUNT))
    if how == "replaced" and kind != "tar":  # the file that was opened is still there
        assert after == right
    else:
        assert all(one == want or CHANGED in str(one) for one, want in zip(after, right, strict=True))
        assert CHANGED in str(after[-1])
