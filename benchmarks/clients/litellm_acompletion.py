"""LiteLLM: `acompletion` under a semaphore, which is faster than its `batch_completion`; Pillow in threads."""

import asyncio
import json
from pathlib import Path
from typing import Any

import litellm
from harness import MAX_TOKENS, MODEL, Job, content, data_url, job, jpeg, measured

RETRIES = 2
"""As the OpenAI SDK has them by default; LiteLLM's own default is none."""


async def caption(wanted: Job, path: Path) -> dict[str, Any]:
    url = data_url(await asyncio.to_thread(jpeg, path, resize=wanted.resize))
    answer = await litellm.acompletion(
        model=f"openai/{MODEL}",
        api_base=wanted.base_url,
        api_key="none",
        max_tokens=MAX_TOKENS,
        num_retries=RETRIES,
        messages=[{"role": "user", "content": content(url)}],
    )
    usage = answer.usage
    return {"id": path.name, "caption": answer.choices[0].message.content, "total_tokens": usage.total_tokens}


async def caption_all(wanted: Job) -> list[dict[str, Any]]:
    semaphore = asyncio.Semaphore(wanted.slots)

    async def one(path: Path) -> dict[str, Any]:
        async with semaphore:
            try:
                return await caption(wanted, path)
            except Exception as error:  # noqa: BLE001 - a failed row, whatever it was
                return {"id": path.name, "error": str(error)}

    return await asyncio.gather(*(one(path) for path in wanted.paths))


def main() -> None:
    wanted = job(__doc__)
    litellm.suppress_debug_info = True

    def work() -> int:
        rows = asyncio.run(caption_all(wanted))
        wanted.out.write_text("\n".join(map(json.dumps, rows)))
        return sum("caption" in row for row in rows)

    measured(work, packages=("litellm", "openai", "aiohttp", "Pillow"))


if __name__ == "__main__":
    main()
