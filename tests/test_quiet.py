"""What decoders print on their own: nothing, however damaged the images are."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

DAMAGES = """
import io, random, sys, warnings
from contextlib import nullcontext
import numpy as np
from PIL import Image
from pipeline.config.images import ImagesConfig
from pipeline.images.prepare import prepare_image, warm_up
from pipeline.images.probe import size_in
from pipeline.tokens.sizing import SizeRule

rng = random.Random(7)
picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
samples = []
def add(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    samples.append(file.getvalue())
for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
    add(picture, "TIFF", compression=compression)
for compression in ("group3", "group4", "tiff_ccitt"):
    add(picture.convert("1"), "TIFF", compression=compression)
for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "JPEG2000", "BMP"):
    add(picture, kind)
if sys.argv[1] == "quiet":
    warm_up()
for number in range(int(sys.argv[2])):
    data = bytearray(samples[number % len(samples)])
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(rng.choice([len(data), min(len(data), 300)]))] = rng.randrange(256)
    prepare_image(bytes(data), SizeRule(16), ImagesConfig(verify="full"), lambda _: nullcontext())
    size_in(bytes(data))
print(number + 1)
"""


def _printed(how: str, count: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", DAMAGES, how, str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{count}\n"
    return done.stderr.splitlines()


def test_damaged_images_print_nothing() -> None:
    """Three hundred damaged files of fifteen kinds, decoded and measured: not one of the many lines of before."""
    assert len(_printed("loud", 300)) > 20
    assert _printed("quiet", 300) == []
