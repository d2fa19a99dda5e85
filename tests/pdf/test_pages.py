"""Pages of PDFs: counted, measured and rendered in processes apart, whatever the bytes are."""

import os
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.documents import prepare_document
from pipeline.images.pages import MOST_PIXELS, page_pixels, prepare_page
from pipeline.locations import DocumentPage, InMemoryImage
from pipeline.pdf import pages as reading
from pipeline.pdf import process
from pipeline.pdf.pages import PageSize, Pdf, page_count, page_size, rendered_page
from pipeline.pdf.process import PROCESSES, Process, Processes
from pipeline.pdf.structure import has_end, is_pdf
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.sizing import SizeRule
from tests.pdfs import LETTER, assembled, bomb, encrypted, pdf

MUTATIONS = int(os.environ.get("VISION_BATCH_FUZZ", "200"))


def held(data: bytes) -> Pdf:
    return Pdf(object(), read=lambda: data)


def page_of(data: bytes, page: int = 1) -> DocumentPage:
    return DocumentPage(f"d.pdf#page={page}", InMemoryImage("d.pdf", lambda: data, len(data), is_pdf=True), page)


def rendered(data: bytes, page: int = 1, size: tuple[int, int] = (153, 198)) -> NDArray[np.uint8]:
    pixels = rendered_page(held(data), page, size, 512)
    assert isinstance(pixels, bytes), pixels
    return np.frombuffer(pixels, np.uint8).reshape(size[1], size[0], 3)


def prepared(data: bytes, page: int = 1, **settings: float) -> PreparedImage | Failure:
    config = ImagesConfig.model_validate(settings)
    return prepare_page(page_of(data, page), SizeRule(768), config, lambda _: nullcontext())


def test_six_pages(tmp_path: Path) -> None:
    """A file and bytes in memory give the same; each page is the one of its number, and no page follows the last."""
    path = tmp_path / "six \udcff.pdf"
    path.write_bytes(pdf(6))
    for document in (Pdf.of(InMemoryImage("x", lambda: pdf(6), 9)), Pdf(os.fspath(path), os.fspath(path))):
        assert isinstance(document, Pdf)
        assert page_count(document) == 6
        assert page_size(document, 6) == PageSize(*LETTER, 6)
        beyond = page_size(document, 7)
        assert isinstance(beyond, Failure)
        assert beyond.kind is ErrorKind.IMAGE_MISSING
    for number in (1, 6):
        row = rendered(pdf(6), number)[12, :, 0] < 128
        assert int((np.diff(row.astype(int)) == 1).sum()) == number


@pytest.mark.parametrize(
    ("entry", "size", "corner"),
    [
        (b"", (612, 792), (0.05, 0.05)),
        (b"/Rotate 90", (792, 612), (0.05, 0.95)),
        (b"/Rotate 180", LETTER, (0.95, 0.95)),
        (b"/Rotate -90", (792, 612), (0.95, 0.05)),
        (b"/CropBox[0 692 100 792]", (100, 100), (0.2, 0.4)),
    ],
)
def test_pages_are_as_a_viewer_shows_them(entry: bytes, size: tuple[int, int], corner: tuple[float, float]) -> None:
    """Rotation and crop box count; the black bar of page 1, at the top left of the paper, is where it belongs."""
    data = pdf(1, page=entry)
    found = page_size(held(data), 1)
    assert isinstance(found, PageSize)
    assert [found.width_pt, found.height_pt] == list(size)
    pixels = rendered(data, size=(size[0] // 2, size[1] // 2))
    down, across = (int(part * side) for part, side in zip(corner, pixels.shape, strict=False))
    near = pixels[max(0, down - 12) : down + 12, max(0, across - 12) : across + 12]
    assert near.min() == 0
    assert pixels.max() == 255


def test_annotations_and_form_fields_are_drawn() -> None:
    """What a person has filled in belongs to the page."""
    drawn = b"0 0 1 rg 0 0 200 100 re f"
    form = b"<</Type/XObject/Subtype/Form/BBox[0 0 200 100]/Length %d>>stream\n%s\nendstream" % (len(drawn), drawn)
    widget = b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(x)/F 4/Rect[100 100 300 200]/AP<</N 5 0 R>>>>"
    data = assembled(
        [
            b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]>>>>",
            b"<</Type/Pages/Count 1/Kids[3 0 R]/MediaBox[0 0 612 792]>>",
            b"<</Type/Page/Parent 2 0 R/Annots[4 0 R]>>",
            widget,
            form,
        ]
    )
    pixels = rendered(data, size=(306, 396))
    assert (pixels[320, 100] < [120, 120, 256]).all()
    assert (pixels[10, 10] == 255).all()


@pytest.mark.parametrize(
    ("size", "dpi", "expected"),
    [
        (LETTER, 200, (1700, 2200)),
        (LETTER, 72, LETTER),
        ((252, 144), 200, (700, 400)),
        ((0.01, 0.01), 200, (1, 1)),
        ((float("nan"), -5), 200, (1, 1)),
        ((14_400, 14_400), 200, (8000, 8000)),
        ((14_400, 1), 1200, (65_500, 5)),
    ],
)
def test_a_page_as_an_image(size: tuple[float, float], dpi: int, expected: tuple[int, int]) -> None:
    """Its size in pixels follows from its box, and is bounded whatever that is."""
    found = page_pixels(PageSize(*size, 1), dpi)
    assert found == expected
    assert found[0] * found[1] <= MOST_PIXELS * 1.01


def test_a_page_is_rendered_at_the_size_that_is_sent() -> None:
    """The model's size, and not a larger one that is shrunk; sharp text; the pages share the bytes of their file."""
    data = pdf(7)
    images = [prepared(data, number) for number in range(1, 8)]
    assert all(isinstance(image, PreparedImage) for image in images)
    facts = [image.facts for image in images if isinstance(image, PreparedImage)]
    assert {one.sent_size for one in facts} == {(593, 768)}
    assert {one.size for one in facts} == {(1700, 2200)}
    assert len({one.sha256 for one in facts}) == 1
    assert sum(one.source_bytes for one in facts) == len(data)
    flaw = prepared(data, max_decoded_mb=1)
    assert isinstance(flaw, Failure)
    assert flaw.kind is ErrorKind.IMAGE_TOO_LARGE
    assert "images.max_decoded_mb" in flaw.message


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (encrypted, "encrypted"),
        (lambda: b"%PDF-1.7\nnothing else\n%%EOF", "no PDF, or a damaged one"),
        (lambda: b"", "no PDF, or a damaged one"),
        (lambda: pdf(0), "no PDF, or a damaged one"),
        (lambda: bomb(400), "more memory|too long|crashed"),
    ],
    ids=["encrypted", "broken", "empty", "no pages", "bomb"],
)
def test_what_cannot_be_read(made: Callable[[], bytes], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of a kind, with a line that a person understands; the next document is read as if nothing was."""
    monkeypatch.setattr(reading, "CPU_S", 1)
    found = prepared(made(), max_decoded_mb=64)
    assert isinstance(found, Failure)
    assert found.kind in {ErrorKind.IMAGE_UNREADABLE, ErrorKind.IMAGE_TOO_LARGE}
    assert re.search(words, found.message)
    assert "\n" not in found.message
    assert page_count(held(pdf(3))) == 3


def test_a_process_that_ends_is_replaced() -> None:
    """Killed between two pages, as by a system without memory: the next page comes from another process."""
    document = held(pdf(2))
    assert page_count(document) == 2
    with PROCESSES.one(document.key) as one:
        os.kill(one._child.pid, signal.SIGKILL)
        one._child.wait()
    assert page_count(document) == 2


@pytest.mark.parametrize(
    "answer", ["", "words", "[]", '{"bytes": 9}', '{"bytes": "a"}', '{"pages": "many", "bytes": 0}']
)
def test_a_process_that_a_document_took_over(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it answers, the document is a failure, and this process goes on."""
    script = tmp_path / "evil.py"
    script.write_text(f"import sys; sys.stdin.readline(); print({answer!r})")
    monkeypatch.setattr(process, "_SCRIPT", script)
    monkeypatch.setattr(reading, "PROCESSES", Processes(1))
    found = page_count(held(pdf(2)))
    assert isinstance(found, Failure)
    assert found.kind is ErrorKind.IMAGE_UNREADABLE


def test_an_object_that_cannot_be_read() -> None:
    """The calling program's object raises: a failure with its words."""

    def read() -> bytes:
        raise LookupError("gone\n")

    document = InMemoryImage("x", read, 9, is_pdf=True)
    found = prepare_page(DocumentPage("x#page=1", document, 1), SizeRule(9), ImagesConfig(), lambda _: nullcontext())
    assert isinstance(found, Failure)
    assert found.message.endswith("LookupError: gone")


def test_many_threads_share_few_processes() -> None:
    """PDFium is not safe for threads: each process serves one at a time, and the pages are still the right ones."""
    documents = [held(pdf(3, text=name)) for name in ("a", "b")]

    def ask(number: int) -> int:
        found = rendered_page(documents[number % 2], 1 + number % 3, (100, 130), 512)
        assert isinstance(found, bytes)
        row = np.frombuffer(found, np.uint8).reshape(130, 100, 3)[8, :, 0] < 128
        return int((np.diff(row.astype(int)) == 1).sum())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(60))) == [1 + number % 3 for number in range(60)]


def test_no_more_processes_than_allowed_and_none_is_left() -> None:
    """The places bound them; those that do nothing end when a run does."""
    few = Processes(2)
    gate, seen = threading.Barrier(2), list[Process]()

    def hold(_: int) -> None:
        with few.one(None) as one:
            seen.append(one)
            gate.wait(10)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(hold, range(4)))
    assert len(set(map(id, seen))) == 2
    few.end_idle()
    assert all(one._child.poll() is not None for one in seen)


def test_a_child_sees_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile document that takes the process over finds no secret in its environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    one = Process()
    try:
        environment = Path(f"/proc/{one._child.pid}/environ")
        if environment.exists():
            assert b"sk-secret" not in environment.read_bytes()
    finally:
        one.end()


def test_mutated_documents() -> None:
    """Each ends as pages or as a failure; this process survives all. `VISION_BATCH_FUZZ=20000` is the long form."""
    rng, kinds = Random(14), set[str]()
    files = [pdf(2), pdf(1, page=b"/Rotate 90"), encrypted(), pdf(3, size=(14_400, 14_400))]
    for _ in range(MUTATIONS):
        data = mutated(rng.choice(files), rng)
        assert isinstance(is_pdf(data), bool)
        whole = prepare_document(data, ImagesConfig())
        page = prepared(data)
        for found in (whole, page):
            kinds.add(found.kind if isinstance(found, Failure) else found.media_type)
            if isinstance(found, Failure):
                assert found.kind.startswith("image_")
                assert found.message.isprintable()
    assert {"application/pdf", "image/jpeg", "image_unreadable", "image_truncated"} <= kinds


def mutated(data: bytes, rng: Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        at = rng.randrange(len(found))
        match rng.randrange(4):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                del found[at : at + rng.randrange(1, 40)]
            case 2:
                found[at:at] = found[rng.randrange(len(found)) :][: rng.randrange(1, 200)]
            case _:
                found[at : at + 4] = rng.choice((b"9999", b"-1 0", b"<<<<", b"null", rng.randbytes(4)))
    return bytes(found[: rng.randrange(1, len(found))] if rng.random() < 0.2 else found)


def test_structure() -> None:
    """The beginning may follow a line of junk; an image that holds a PDF is none."""
    assert is_pdf(b"%PDF-1.4")
    assert is_pdf(b"\r\n  %PDF-1.4")
    assert not is_pdf(b"\xff\xd8\xff\xe0 %PDF-1.4")
    assert not is_pdf(b"PDF")
    assert has_end(pdf(1))
    assert not has_end(pdf(1)[:300])
