"""The alternative, as a careful user writes it: the official client, a semaphore, Pillow in threads."""

import argparse
import asyncio
import base64
import io
from pathlib import Path

import pandas as pd
from common import PROMPT, measured
from openai import AsyncOpenAI
from PIL import Image


def target(width: int, height: int) -> tuple[int, int]:
    """Fit 2048 x 2048, then a short side of 768: what the model looks at."""
    scale = min(1.0, 2048 / max(width, height), 768 / min(width, height))
    return round(width * scale), round(height * scale)


def resized(path: Path) -> bytes:
    with Image.open(path) as image:
        buffer = io.BytesIO()
        small = image.convert("RGB").resize(target(*image.size), Image.Resampling.LANCZOS)
        small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


async def caption(client: AsyncOpenAI, path: Path, *, resize: bool) -> dict[str, object]:
    data = await asyncio.to_thread(resized if resize else Path.read_bytes, path)
    url = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    answer = await client.chat.completions.create(
        model="gpt-4o",
        max_tokens=300,
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}],
            }
        ],
    )
    tokens = answer.usage.total_tokens if answer.usage else None
    return {"id": path.name, "caption": answer.choices[0].message.content, "total_tokens": tokens}


async def caption_all(paths: list[Path], base_url: str, slots: int, *, resize: bool) -> list[dict[str, object]]:
    semaphore = asyncio.Semaphore(slots)
    async with AsyncOpenAI(base_url=base_url) as client:

        async def one(path: Path) -> dict[str, object]:
            async with semaphore:
                return await caption(client, path, resize=resize)

        return await asyncio.gather(*(one(path) for path in paths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("base_url")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--no-resize", action="store_true", help="the images are known to be small enough")
    arguments = parser.parse_args()

    def job() -> int:
        paths = sorted(arguments.folder.iterdir())
        resize = not arguments.no_resize
        rows = asyncio.run(caption_all(paths, arguments.base_url, arguments.slots, resize=resize))
        pd.DataFrame(rows).to_parquet(arguments.out)
        return len(rows)

    measured(job)


if __name__ == "__main__":
    main()
