"""Hundreds of files whose headers claim any size: `python -m tests.image_headers --count 2000 --seed 3`.

Short in test_images_memory. Each file is prepared in this process, and what that took is measured: the kernel's
high-water mark of resident memory. More than `images.max_decoded_mb` is a violation, and so is an exception.
"""

import argparse
import ctypes
import io
import random
import re
import resource
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.images.prepare import prepare_image, warm_up
from pipeline.records import Failure
from pipeline.tokens.sizing import SizeRule

LIMIT_MB = 48
SLACK = 6_000_000
"""Bytes that the heap grows by on its own: arenas, threads, libraries that are loaded."""
MOST_ADDRESS_SPACE = 3 << 30
Build = Callable[[random.Random, int, int], bytes]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rng: random.Random, width: int, height: int) -> bytes:
    colour = rng.choice([0, 2, 3, 4, 6])
    bits = rng.choice({0: [1, 2, 4, 8, 16], 3: [1, 2, 4, 8]}.get(colour, [8, 16]))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, rng.randint(0, 1)))
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    see_through = chunk(b"tRNS", bytes(6 if colour == 2 else 2)) if colour in {0, 2, 3} and rng.random() < 0.5 else b""
    moving = chunk(b"acTL", bytes(8)) if rng.random() < 0.1 else b""
    rows = zlib.compress(bytes(min(40_000_000, (width * 8 + 1) * height)), 1) if rng.random() < 0.5 else b"x"
    return b"\x89PNG\r\n\x1a\n" + header + moving + palette + see_through + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(rng: random.Random, width: int, height: int) -> bytes:
    width, height = min(width, 65535), min(height, 65535)
    left, top = rng.choice([(0, 0), (0, 0), (width // 2, 3)])
    inside = (left, top, max(1, width - left), max(1, height - top))
    see_through = b"!\xf9\x04\x01\0\0\0\0" if rng.random() < 0.5 else b""
    picture = b"," + struct.pack("<HHHHB", *inside, 0) + b"\x08" + b"\xff" + bytes(255) + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + bytes(768) + see_through + picture + b";"


def webp(rng: random.Random, width: int, height: int) -> bytes:
    width, height = min(width, 16383), min(height, 16383)
    lossless = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | rng.randint(0, 1) << 28) + bytes(99)
    lossy = b"\x10\x02\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(99)
    kind, body = rng.choice([(b"VP8L", lossless), (b"VP8 ", lossy)])
    found = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    if rng.random() < 0.4:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        found = b"VP8X" + struct.pack("<I", 10) + bytes([rng.choice([0, 0x10, 2]), 0, 0, 0]) + sides + found
    return b"RIFF" + struct.pack("<I", 4 + len(found)) + b"WEBP" + found


def bmp(rng: random.Random, width: int, height: int) -> bytes:
    bits, packed = rng.choice([(1, 0), (4, 0), (8, 0), (24, 0), (32, 0), (8, 1), (4, 2)])
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packed, 0, 0, 0, 0, 0)
    colours = bytes(4 << bits) if bits <= 8 else b""
    body = b"\xff\x01" * rng.choice([10, 100_000])
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(colours)) + info + colours + body


def tiff(rng: random.Random, width: int, height: int) -> bytes:
    photometric, samples, bits, form = rng.choice(
        [(1, 1, 8, 1), (1, 1, 16, 1), (1, 1, 32, 3), (1, 1, 32, 2), (2, 3, 8, 1), (2, 4, 8, 1), (2, 3, 16, 1),
         (3, 1, 8, 1), (5, 4, 8, 1), (1, 1, 1, 1), (1, 2, 8, 1), (6, 3, 8, 1)]
    )  # fmt: skip
    rows = rng.choice([1, 64, height, 0xFFFFFFFF])
    body = zlib.compress(bytes(1_000_000), 1)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, rng.choice([1, 5, 8, 7, 32773, 34925])),
        (262, 3, 1, photometric), (273, 4, 1, 1000), (274, 3, 1, rng.choice([1, 1, 6])), (277, 3, 1, samples),
        (278, 4, 1, rows), (279, 4, 1, len(body)), (284, 3, 1, rng.choice([1, 1, 2])), (339, 3, 1, form),
    ]  # fmt: skip
    if samples > photometric + 1 or (photometric, samples) == (1, 2):
        entries.append((338, 3, 1, rng.choice([0, 2])))
    if rng.random() < 0.3:
        side = rng.choice([64, 512, 65535])
        entries = [one for one in entries if one[0] not in {273, 278, 279}]
        entries += [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 1000), (325, 4, 1, len(body))]
    directory = b"".join(struct.pack("<HHII", *one) for one in sorted(entries))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4)).ljust(1000, b"\0") + body


def _jpeg_sample(*, progressive: bool, mode: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (64, 64), 99 if mode == "L" else None).save(file, "JPEG", progressive=progressive)
    return file.getvalue()


def jpeg(rng: random.Random, width: int, height: int) -> bytes:
    data = bytearray(_jpeg_sample(progressive=rng.random() < 0.5, mode=rng.choice(["L", "RGB", "CMYK"])))
    found = re.search(rb"\xff[\xc0\xc2]..\x08", data, re.DOTALL)
    assert found is not None
    struct.pack_into(">HH", data, found.end(), min(height, 65500), min(width, 65500))
    return bytes(data)


def jpeg2000(rng: random.Random, width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new(rng.choice(["L", "RGB", "RGBA"]), (64, 64)).save(file, "JPEG2000")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\x4f\xff\x51")
    struct.pack_into(">II", data, at + 8, width, height)
    if rng.random() < 0.7:  # one tile
        struct.pack_into(">II", data, at + 24, width, height)
    if rng.random() < 0.8:
        struct.pack_into(">II", data, data.index(b"ihdr") + 4, height, width)
    return bytes(data)


def avif(rng: random.Random, width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new(rng.choice(["RGB", "RGBA"]), (64, 64)).save(file, "AVIF", speed=10)
    data = bytearray(file.getvalue())
    for found in re.finditer(rb"ispe....", data, re.DOTALL):
        struct.pack_into(">II", data, found.end(), width, height)
    return bytes(data)


BUILDS: tuple[Build, ...] = (png, gif, webp, bmp, tiff, jpeg, jpeg2000, avif)


def size(rng: random.Random) -> tuple[int, int]:
    """From a pixel to a hundred million on a side, evenly over the orders of magnitude."""
    pixels = 10 ** rng.uniform(2, 8.3)
    shape = 10 ** rng.choice([0.0, rng.uniform(-1, 1), rng.uniform(-8, 8)])
    return max(1, int((pixels * shape) ** 0.5)), max(1, int((pixels / shape) ** 0.5))


def resident(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024


def peak_of(data: bytes, rule: SizeRule, config: ImagesConfig) -> tuple[int, str, list[int]]:
    """Bytes beyond what there was before, how it ended, and the bytes that were reserved."""
    reserved: list[int] = []

    def reserve(amount: int) -> "nullcontext[None]":
        reserved.append(amount)
        return nullcontext()

    ctypes.CDLL(None).malloc_trim(0)  # what is free, and kept, would hide what is used
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    result = prepare_image(data, rule, config, reserve)
    return resident("VmHWM") - before, result.kind.value if isinstance(result, Failure) else "prepared", reserved


def campaign(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How many files ended in which way, and the violations."""
    rng, config, ends, violations = random.Random(seed), ImagesConfig(max_decoded_mb=LIMIT_MB), Counter[str](), []
    for number in range(count):
        build, (width, height) = BUILDS[number % len(BUILDS)], size(rng)
        data, rule = build(rng, width, height), SizeRule(rng.choice([64, 1024, 100_000]))
        peak, end, reserved = peak_of(data, rule, config)
        ends[end] += 1
        if peak > max(reserved, default=len(data)) + SLACK or peak > LIMIT_MB * 1_000_000 + SLACK:
            violations.append(f"{number} {build.__name__} {width} x {height}: {peak:,} bytes of {reserved}, {end}")
    return ends, violations


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    warm_up()
    for build in BUILDS:  # libraries are loaded, heaps have grown
        prepare_image(build(random.Random(0), 64, 64), SizeRule(16), ImagesConfig(), lambda _: nullcontext())
    ends, violations = campaign(wanted.count, wanted.seed)
    print(f"{ends.total()} files:", ", ".join(f"{count} {end}" for end, count in ends.most_common()))  # noqa: T201
    print(*violations, sep="\n")  # noqa: T201
    raise SystemExit(bool(violations))


if __name__ == "__main__":
    main()
