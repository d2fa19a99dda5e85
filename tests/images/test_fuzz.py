"""Damaged files of every format: the short form of `make fuzz`, in this process."""

import pytest

from pipeline.images.prepare import warm_up
from tests.fuzz.run import COMMON, campaign
from tests.fuzz.seeds import MAKERS
from tests.fuzz.worker import damaged, ended

FILES = 60
"""Of each format; `make fuzz` decodes 20,000."""


@pytest.mark.parametrize("kind", MAKERS)
def test_damaged_files_end_as_pictures_or_failures(kind: str) -> None:
    """No exception, no hang, and what is sent is a picture; the files differ from those of `make fuzz` in nothing."""
    warm_up()
    ends = {ended(damaged(kind, number), number) for number in range(FILES)}
    assert "decoded" in ends
    assert any(end.startswith("image_") for end in ends)


def test_the_long_form_counts_and_goes_on() -> None:
    """One process, some files: all are counted, and none is a bug."""
    found = campaign("BMP", 20, first=1000)
    assert (found.ends.total(), found.bugs) == (20, [])
    assert found.peak_mb > 0
    assert set(COMMON) <= set(MAKERS)
