"""Draws data/samples: `python data/draw_samples.py [FOLDER]`.

Every picture comes from arithmetic and a seed, so that the same bytes come out again on the same machine.
Together they are the kinds of file that a folder of images holds, with one that is broken on purpose.
"""

import csv
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.floating[Any]]

MANIFEST = (
    ("hills", "hills.jpg", "Sun over hills, larger than a model looks at", "train"),
    ("fog", "fog.jpg", "Ridges in fog, a grey JPEG", "train"),
    ("inks", "inks.jpg", "Four inks overprinted, a CMYK JPEG", "train"),
    ("glass", "glass.png", "Coloured glass, a PNG with transparency", "train"),
    ("tiles", "tiles.png", "Floor tiles, a PNG with a palette", "train"),
    ("terrain", "terrain.png", "Heights of a terrain, a 16-bit PNG", "train"),
    ("night", "night.webp", "Night sky with a moon, a WebP", "validation"),
    ("ball", "ball.gif", "A bouncing ball, an animated GIF", "validation"),
    ("tower", "tower.jpg", "A tower, stored lying down with EXIF orientation 6", "validation"),
    ("chart", "chart.tiff", "Bars without text, a TIFF", "test"),
    ("board", "board.png", "A checkerboard, a plain PNG", "test"),
    ("sea", "été à la mer.jpg", "Sails at sea, with GPS coordinates in its EXIF", "test"),
    ("broken", "broken.jpg", "Cut short on purpose: its row fails and says why", "test"),
)


def axes(width: int, height: int) -> tuple[Floats, Floats]:
    """Columns (1, width) and rows (height, 1), both from 0 to 1."""
    return np.linspace(0.0, 1.0, width)[None, :], np.linspace(0.0, 1.0, height)[:, None]


def noise(width: int, height: int, cells: int, seed: int) -> Floats:
    """Smooth noise from 0 to 1 with about `cells` bumps along the width, (height, width)."""
    rows = max(2, round(cells * height / width))
    grid = np.random.default_rng(seed).integers(0, 256, (rows, cells)).astype(np.uint8)
    smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    values: Floats = np.asarray(smooth) / 255.0
    return values


def mix(low: tuple[int, int, int], high: tuple[int, int, int], share: Floats) -> Floats:
    """Colours between `low` and `high`, (height, width, 3), 0 to 255."""
    start, end = np.array(low, dtype=float), np.array(high, dtype=float)
    colours: Floats = start + (end - start) * share[..., None]
    return colours


def to_image(pixels: Floats, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).convert(mode)


def ridge(width: int, seed: int, base: float, height: float) -> Floats:
    """The line of a range of hills, 0 (top) to 1, (1, width)."""
    return base - height * noise(width, 2, 5 + seed % 4, seed)[:1]


def hills() -> Image.Image:
    width, height = 2560, 1706
    x, y = axes(width, height)
    scene = mix((70, 130, 205), (250, 205, 150), np.broadcast_to(y * 1.5, (height, width)).clip(0, 1))
    sun = np.hypot((x - 0.72) * width / height, y - 0.26)
    glow = np.clip(1.0 - sun / 0.45, 0.0, 1.0)[..., None] ** 2
    scene = np.where((sun < 0.085)[..., None], (255, 246, 200), scene + glow * (70, 45, 0))
    greens = ((118, 150, 128), (84, 132, 82), (48, 104, 50), (28, 72, 34))
    for number, green in enumerate(greens):
        line = ridge(width, 11 + number, 0.62 + 0.12 * number, 0.16)
        shade = 0.85 + 0.3 * noise(width, height, 160, 21 + number)
        scene = np.where((y > line)[..., None], np.array(green) * shade[..., None], scene)
    return to_image(scene)


def fog() -> Image.Image:
    width, height = 800, 600
    _, y = axes(width, height)
    scene = np.broadcast_to(235.0 - 25.0 * y, (height, width))
    for number in range(5):
        line = ridge(width, 31 + number, 0.45 + 0.13 * number, 0.22)
        scene = np.where(y > line, 205.0 - 38.0 * number + 30.0 * (y - line), scene)
    return to_image(scene, "L")


def inks() -> Image.Image:
    """Three discs and a bar, one in each of the four printing inks."""
    width, height = 720, 540
    x, y = axes(width, height)
    plates = []
    for turn in range(3):
        angle = math.pi * (2 * turn / 3 - 0.5)
        centre = 0.5 + 0.13 * math.cos(angle), 0.45 + 0.17 * math.sin(angle)
        plates.append(np.hypot((x - centre[0]) * width / height, y - centre[1]) < 0.26)
    plates.append(np.broadcast_to(y > 0.9, (height, width)))
    return Image.merge("CMYK", [to_image(plate * 225.0, "L") for plate in plates])


def glass() -> Image.Image:
    side = 480
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    shapes = (
        ((30, 40, 300, 310), (220, 40, 60, 150)),
        ((180, 60, 450, 330), (40, 150, 90, 150)),
        ((105, 180, 375, 450), (50, 80, 220, 150)),
    )
    for box, colour in shapes:
        pane = Image.new("RGBA", image.size, (0, 0, 0, 0))
        ImageDraw.Draw(pane).ellipse(box, fill=colour, outline=(*colour[:3], 255), width=6)
        image = Image.alpha_composite(image, pane)
    return image


def tiles() -> Image.Image:
    side, count = 40, 12
    colours = ((196, 92, 56), (232, 196, 140), (94, 116, 88), (52, 64, 92))
    image = Image.new("P", (side * count, side * count))
    image.putpalette([channel for colour in ((245, 240, 232), *colours) for channel in colour])
    draw = ImageDraw.Draw(image)
    picks = np.random.default_rng(41).integers(1, 5, (count, count))
    for (row, column), pick in np.ndenumerate(picks):
        left, top = int(column) * side + 2, int(row) * side + 2
        draw.rectangle((left, top, left + side - 5, top + side - 5), fill=int(pick))
        draw.polygon([(left, top), (left + side - 5, top), (left, top + side - 5)], fill=int(pick) % 4 + 1)
    return image


def terrain() -> Image.Image:
    width, height = 360, 270
    heights = sum(noise(width, height, 4 * 2**octave, 51 + octave) / 2**octave for octave in range(4))
    scaled = np.asarray(heights) / np.max(heights)
    return Image.fromarray(np.rint(scaled**2 * 65535).astype(np.uint16))


def night() -> Image.Image:
    width, height = 1024, 768
    x, y = axes(width, height)
    scene = mix((8, 10, 34), (36, 44, 92), np.broadcast_to(y, (height, width)))
    scene += 22.0 * noise(width, height, 9, 61)[..., None]
    rng = np.random.default_rng(62)
    stars = rng.integers(0, (height * 3 // 4, width), (420, 2))
    scene[stars[:, 0], stars[:, 1]] = rng.integers(150, 256, (420, 1))
    moon, shadow = np.hypot((x - 0.25) * 4 / 3, y - 0.28), np.hypot((x - 0.285) * 4 / 3, y - 0.26)
    scene = np.where(((moon < 0.1) & (shadow > 0.09))[..., None], (246, 240, 214), scene)
    return to_image(np.where((y > ridge(width, 63, 0.93, 0.12))[..., None], (6, 8, 14), scene))


def ball() -> list[Image.Image]:
    frames = []
    for number in range(8):
        frame = Image.new("RGB", (240, 240), (250, 214, 90))
        draw = ImageDraw.Draw(frame)
        draw.rectangle((0, 200, 240, 240), fill=(120, 84, 60))
        x, y = 20 + 25 * number, 150 - round(110 * abs(math.sin(math.pi * number / 4)))
        draw.ellipse((x, y, x + 50, y + 50), fill=(206, 44, 60), outline=(120, 20, 34), width=3)
        frames.append(frame.convert("P", palette=Image.Palette.ADAPTIVE, colors=16))
    return frames


def tower() -> Image.Image:
    """Upright it is 600 x 900; it is stored turned, as a camera held sideways does."""
    width, height = 600, 900
    _, y = axes(width, height)
    image = to_image(mix((126, 178, 226), (226, 236, 244), np.broadcast_to(y, (height, width))))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 780, width, height), fill=(96, 124, 70))
    draw.polygon([(210, 820), (240, 260), (360, 260), (390, 820)], fill=(170, 96, 72))
    draw.polygon([(215, 262), (300, 90), (385, 262)], fill=(78, 58, 66))
    for row in range(5):
        draw.rectangle((280, 310 + 95 * row, 320, 365 + 95 * row), fill=(248, 226, 150))
    draw.rectangle((270, 750, 330, 820), fill=(60, 40, 34))
    return image.transpose(Image.Transpose.ROTATE_90)


def chart() -> Image.Image:
    image = Image.new("RGB", (420, 300), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.line([(40, 20), (40, 262), (404, 262)], fill=(60, 60, 60), width=3)
    colours = ((66, 114, 196), (232, 124, 48), (92, 164, 84), (188, 60, 72), (128, 92, 172), (240, 190, 60))
    for number, tall in enumerate((120, 190, 75, 215, 150, 40)):
        draw.rectangle((56 + 58 * number, 260 - tall, 96 + 58 * number, 260), fill=colours[number])
    return image


def board() -> Image.Image:
    rows, columns = np.indices((384, 384)) // 48
    return to_image(mix((24, 24, 28), (240, 236, 224), ((rows + columns) % 2).astype(float)))


def sea() -> Image.Image:
    width, height = 960, 540
    _, y = axes(width, height)
    sky = mix((120, 190, 236), (232, 244, 250), np.broadcast_to(y * 2, (height, width)).clip(0, 1))
    waves = mix((24, 110, 150), (10, 56, 104), np.broadcast_to(y * 2 - 1, (height, width)).clip(0, 1))
    waves += 40.0 * (noise(width, height, 60, 71)[..., None] - 0.5)
    image = to_image(np.where((y > 0.5)[..., None], waves, sky))
    draw = ImageDraw.Draw(image)
    for left, top, size in ((180, 120, 230), (560, 190, 140), (790, 220, 80)):
        foot = top + size
        draw.polygon([(left, top), (left, foot), (left + size // 2, foot)], fill=(252, 252, 246))
        draw.polygon([(left - 6, top + 20), (left - 6, foot), (left - size // 3, foot)], fill=(224, 60, 52))
        bow, stern, keel = left - size // 2, left + size // 2, foot + size // 5
        draw.polygon([(bow, foot + 6), (stern, foot + 6), (left, keel)], fill=(92, 60, 40))
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def located() -> Image.Exif:
    """Where no camera stood: 0 degrees north, 0 degrees west."""
    exif = Image.Exif()
    exif[0x010F] = "vision-batch"
    exif.get_ifd(0x8825).update({1: "N", 2: (0.0, 0.0, 0.0), 3: "W", 4: (0.0, 0.0, 0.0)})
    return exif


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def animated() -> bytes:
    first, *others = ball()
    return encoded(first, "GIF", save_all=True, append_images=others, duration=80, loop=0)


def broken() -> bytes:
    """The first third of a JPEG: its header is whole, its pixels are not."""
    whole = encoded(to_image(mix((40, 90, 60), (220, 200, 120), noise(640, 480, 24, 81))), "JPEG", quality=80)
    return whole[: len(whole) // 3]


SAMPLES: dict[str, Callable[[], bytes]] = {
    "hills.jpg": lambda: encoded(hills(), "JPEG", quality=76),
    "fog.jpg": lambda: encoded(fog(), "JPEG", quality=85),
    "inks.jpg": lambda: encoded(inks(), "JPEG", quality=85),
    "glass.png": lambda: encoded(glass(), "PNG"),
    "tiles.png": lambda: encoded(tiles(), "PNG"),
    "terrain.png": lambda: encoded(terrain(), "PNG"),
    "night.webp": lambda: encoded(night(), "WEBP", quality=80),
    "ball.gif": animated,
    "tower.jpg": lambda: encoded(tower(), "JPEG", quality=85, exif=turned()),
    "chart.tiff": lambda: encoded(chart(), "TIFF", compression="tiff_lzw"),
    "board.png": lambda: encoded(board(), "PNG"),
    "été à la mer.jpg": lambda: encoded(sea(), "JPEG", quality=85, exif=located()),
    "broken.jpg": broken,
}


def draw_samples(folder: Path) -> None:
    """Write the images and `manifest.csv` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in SAMPLES.items():
        (folder / name).write_bytes(draw())
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "image", "title", "split"))
        writer.writerows(MANIFEST)


if __name__ == "__main__":
    draw_samples(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "samples")
