"""Images that are sent as they are: prepared without a decoder, in more threads than there are cores."""

from datetime import date
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from pipeline.config.loading import load_config
from pipeline.locations import DataUrl, LocalFile, Location
from pipeline.records import Failure, ImageRecord, PreparedRequest
from pipeline.run.prepare import Preparer
from pipeline.store.suspects import JOURNAL_NAME, Suspects
from tests.every_format import FAILED, READ, Case
from tests.support import MakeImage

NAMES = ("caption",)
BY_NAME = {case.name: case for case in (*READ, *FAILED)}


@cache
def preparer(**settings: object) -> Preparer:
    given = {"request.model": "gpt-4o", **{name.replace("__", "."): value for name, value in settings.items()}}
    return Preparer.build(load_config(None, given, environ={}), date(2026, 11, 22))


def file_at(path: Path) -> LocalFile:
    return LocalFile(str(path), path.name)


def record_of(location: Location) -> ImageRecord:
    return ImageRecord("a", (location,))


@pytest.mark.parametrize("case", BY_NAME.values(), ids=list(BY_NAME))
def test_every_format_gives_the_same_with_a_decoder_and_without(case: Case, tmp_path: Path) -> None:
    """Or nothing, where it needs one: no kind of file becomes another request by the way it takes."""
    path = tmp_path / case.name
    path.write_bytes(case.data())
    prepare, record = preparer(), record_of(file_at(path))
    found = prepare.undecoded(record, (None,), NAMES)
    assert found is None or found == prepare(record, (None,), NAMES)
    fetched = prepare.undecoded(record, (case.data(),), NAMES)
    assert fetched is None or fetched == prepare(record, (case.data(),), NAMES)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_what_is_sent_as_it_is_needs_none(make_image: MakeImage, name: str) -> None:
    path = make_image(name)
    found = preparer().undecoded(record_of(file_at(path)), (None,), NAMES)
    assert isinstance(found, list)
    assert isinstance(found[0], PreparedRequest)
    assert found[0].image_facts[0].sent_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [("large.jpg", 2500, 1800), ("a.gif", 320, 240), ("a.bmp", 320, 240), ("a.tiff", 320, 240)],
)
def test_what_is_decoded_is_left_to_the_decoding_threads(
    make_image: MakeImage, name: str, width: int, height: int
) -> None:
    path = make_image(name, width, height)
    assert preparer().undecoded(record_of(file_at(path)), (None,), NAMES) is None
    assert preparer().undecoded(record_of(file_at(path)), (path.read_bytes(),), NAMES) is None


def test_a_long_file_is_not_read_twice(make_image: MakeImage, tmp_path: Path) -> None:
    """It would be sent as it is; whether it is shows only when it has been read."""
    path = make_image("a.png")
    noise = Image.effect_noise((640, 900), 90).convert("RGB")
    noise.save(tmp_path / "noise.png", compress_level=0)
    assert (tmp_path / "noise.png").stat().st_size > 1 << 20
    assert preparer().undecoded(record_of(file_at(tmp_path / "noise.png")), (None,), NAMES) is None
    assert preparer().undecoded(record_of(file_at(path)), (None,), NAMES) is not None


@pytest.mark.parametrize("settings", [{"images__verify": "full"}, {"images__frames": 4}])
def test_settings_that_decode_every_image(make_image: MakeImage, settings: dict[str, object]) -> None:
    path = make_image("a.jpg")
    assert preparer(**settings).undecoded(record_of(file_at(path)), (None,), NAMES) is None


def test_other_places_are_read_by_the_decoding_threads() -> None:
    """What is costly to read, or may change when it is read again, is read once."""
    url = "data:image/png;base64,iVBORw0KGgo="
    assert preparer().undecoded(record_of(DataUrl("a", url)), (None,), NAMES) is None


def test_a_missing_file_is_known_at_once(tmp_path: Path) -> None:
    found = preparer().undecoded(record_of(file_at(tmp_path / "none.jpg")), (None,), NAMES)
    assert isinstance(found, Failure)
    assert found.kind == "image_missing"


def test_a_suspect_is_decoded_apart(make_image: MakeImage, tmp_path: Path) -> None:
    """Whatever it is: the run that met it ended in it."""
    path = make_image("a.jpg")
    killed = Suspects(tmp_path)
    killed.begin("a")
    with Suspects(tmp_path) as suspects:
        prepare = preparer().of_run(suspects, takes_several=True, is_bounded=False)
        assert prepare.undecoded(record_of(file_at(path)), (None,), NAMES) is None
        assert isinstance(prepare(record_of(file_at(path)), (None,), NAMES), list)
    assert not (tmp_path / JOURNAL_NAME).exists()
