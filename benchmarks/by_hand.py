"""The alternative, as a careful user writes it: the official client, a semaphore, Pillow in threads, a Parquet file.

`--httpx` takes the client as it comes; otherwise it has the aiohttp backend, as its documentation says for speed.
"""

import asyncio
import sys
from pathlib import Path

import pandas as pd
from harness import MAX_TOKENS, MODEL, PROMPT, Job, data_url, job, jpeg, measured
from openai import AsyncOpenAI, DefaultAioHttpClient, OpenAIError


def client(base_url: str, *, httpx: bool = True) -> AsyncOpenAI:
    if httpx:
        return AsyncOpenAI(base_url=base_url, api_key="none")
    return AsyncOpenAI(base_url=base_url, api_key="none", http_client=DefaultAioHttpClient())


async def caption(client: AsyncOpenAI, path: Path, *, resize: bool) -> dict[str, object]:
    url = data_url(await asyncio.to_thread(jpeg, path, resize=resize))
    answer = await client.chat.completions.create(
        model=MODEL,
        max_tokens=MAX_TOKENS,
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}],
            }
        ],
    )
    tokens = answer.usage.total_tokens if answer.usage else None
    return {"id": path.name, "caption": answer.choices[0].message.content, "total_tokens": tokens}


async def caption_all(wanted: Job, *, httpx: bool) -> list[dict[str, object]]:
    semaphore = asyncio.Semaphore(wanted.slots)
    async with client(wanted.base_url, httpx=httpx) as openai:

        async def one(path: Path) -> dict[str, object]:
            async with semaphore:
                try:
                    return await caption(openai, path, resize=wanted.resize)
                except OpenAIError as error:
                    return {"id": path.name, "error": str(error)}

        return await asyncio.gather(*(one(path) for path in wanted.paths))


def main() -> None:
    httpx = "--httpx" in sys.argv
    if httpx:
        sys.argv.remove("--httpx")
    wanted = job(__doc__)

    def work() -> int:
        rows = asyncio.run(caption_all(wanted, httpx=httpx))
        pd.DataFrame(rows).to_parquet(wanted.out)
        return sum("caption" in row for row in rows)

    measured(work, packages=("openai", "httpx2" if httpx else "aiohttp", "Pillow"))


if __name__ == "__main__":
    main()
