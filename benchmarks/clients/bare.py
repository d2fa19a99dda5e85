"""The bare loop: aiohttp and uvloop and nothing else, with the best JPEG path. No retries, no limits, nothing kept.

It is the yardstick: what a request and its pixels cost in Python before anyone promises anything.
"""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import cykooz_resizer
import orjson
import pybase64
import uvloop
from harness import MAX_TOKENS, MODEL, Job, content, job, measured, target
from PIL import Image

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}
_BODY = orjson.dumps(
    {
        "model": MODEL,
        "max_tokens": MAX_TOKENS,
        "messages": [{"role": "user", "content": content("data:image/jpeg;base64,|")}],
    }
)
BEFORE, AFTER = _BODY.split(b"|")


def small(path: Path) -> bytes:
    """Decoded at the least scale that covers the target, resized with SIMD, encoded without the interpreter's lock."""
    with Image.open(path) as image:
        size = target(*image.size)
        image.draft("RGB", size)
        result = Image.new("RGB", size)
        lanczos = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.lanczos3)
        options = cykooz_resizer.ResizeOptions(resize_alg=lanczos)
        cykooz_resizer.Resizer().resize_pil(image.convert("RGB"), result, options)
    with os.fdopen(os.memfd_create("jpeg"), "w+b") as file:
        result.save(file, "JPEG", quality=85)
        file.seek(0)
        return file.read()


async def caption_all(wanted: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    paths: Iterator[Path] = iter(wanted.paths)
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(os.cpu_count())
    connector = aiohttp.TCPConnector(limit=wanted.slots)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

        async def worker() -> None:
            for path in paths:
                data = await loop.run_in_executor(threads, small, path) if wanted.resize else path.read_bytes()
                body = BEFORE + pybase64.b64encode(data) + AFTER
                async with session.post(f"{wanted.base_url}/chat/completions", data=body) as response:
                    answer = orjson.loads(await response.read())
                if response.status == 200:
                    caption = answer["choices"][0]["message"]["content"]
                    rows.append({"id": path.name, "caption": caption, "usage": answer["usage"]})

        await asyncio.gather(*(worker() for _ in range(wanted.slots)))
    return rows


def main() -> None:
    wanted = job(__doc__)
    measured(lambda: len(uvloop.run(caption_all(wanted))), packages=("aiohttp", "uvloop", "cykooz.resizer", "Pillow"))


if __name__ == "__main__":
    main()
