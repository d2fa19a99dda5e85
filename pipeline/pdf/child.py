"""The process that counts, measures and renders the pages of PDFs. A script: it imports nothing of this package.

It reads requests from its standard input, a JSON object a line and the bytes that it announces, and answers each in
the same way. It ends where its input does. One document is open at a time.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium

PAGE_BYTES = resource.getpagesize()
FLAGS = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER


class Child:
    """Answers requests about the open document."""

    def __init__(self) -> None:
        self.document: Any = None
        self.file: BinaryIO | None = None

    def open(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        self.close()
        bound_memory(request["memory_mb"])
        if request["path"] is not None:
            self.file = Path(request["path"]).open("rb")  # noqa: SIM115 - it is open as long as the document
        self.document = pypdfium2.PdfDocument(self.file or data)
        self.document.init_forms()
        return {"pages": len(self.document)}, b""

    def size(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        return {"size": self.document.get_page_size(request["page"] - 1)}, b""

    def render(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        bound_memory(request["memory_mb"])
        width, height = request["width"], request["height"]
        page = self.document[request["page"] - 1]
        try:
            pixels = (ctypes.c_ubyte * (width * height * 3))()
            bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR, buffer=pixels)
            bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
            where = (bitmap, page, 0, 0, width, height, 0, FLAGS)
            pdfium.FPDF_RenderPageBitmap(*where)
            if self.document.formenv:
                pdfium.FPDF_FFLDraw(self.document.formenv, *where)
            return {}, bytes(pixels)
        finally:
            page.close()

    def close(self) -> None:
        if self.document is not None:
            self.document.close()
        if self.file is not None:
            self.file.close()
        self.document = self.file = None

    def answer(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        signal.setitimer(signal.ITIMER_PROF, request["cpu_s"])  # the signal ends this process
        try:
            if request["do"] == "open":
                return self.open(request, data)
            return self.size(request) if request["do"] == "size" else self.render(request)
        except pypdfium2.PdfiumError as error:
            is_locked = getattr(error, "err_code", None) == pdfium.FPDF_ERR_PASSWORD
            return {"error": "password" if is_locked else "format", "message": str(error)}, b""
        except MemoryError:
            return {"error": "memory", "message": ""}, b""
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this document
            return {"error": "format", "message": f"{type(error).__name__}: {error}"}, b""
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def bound_memory(more_mb: int) -> None:
    """From now on allow so much more than is taken. Only Linux tells what is taken."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        taken = int(statm.read_text(encoding="ascii").split()[0]) * PAGE_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = taken + more_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def main() -> None:
    """Serve until the input ends. Whatever prints, prints elsewhere."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    child = Child()
    while line := source.readline():
        request = json.loads(line)
        reply, data = child.answer(request, source.read(request["bytes"]))
        target.write(json.dumps({**reply, "bytes": len(data)}).encode() + b"\n")
        target.write(data)
        target.flush()


if __name__ == "__main__":
    main()
