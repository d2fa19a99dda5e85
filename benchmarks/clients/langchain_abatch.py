"""LangChain: `abatch` of `ChatOpenAI` with `max_concurrency`.

The images are prepared by a runnable in front of the model, so that no more of them are in memory than are asked.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from harness import MAX_TOKENS, MODEL, Job, content, data_url, job, jpeg, measured
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import SecretStr


async def caption_all(wanted: Job) -> list[dict[str, Any]]:
    model = ChatOpenAI(
        model=MODEL, base_url=wanted.base_url, api_key=SecretStr("none"), max_completion_tokens=MAX_TOKENS
    )

    async def question(path: Path) -> list[HumanMessage]:
        url = data_url(await asyncio.to_thread(jpeg, path, resize=wanted.resize))
        return [HumanMessage(content=content(url))]

    chain = RunnableLambda(question) | model
    answers = await chain.abatch(list(wanted.paths), config={"max_concurrency": wanted.slots}, return_exceptions=True)
    return [
        {"id": path.name, "error": str(answer)}
        if isinstance(answer, BaseException)
        else {"id": path.name, "caption": answer.content, "usage": answer.usage_metadata}
        for path, answer in zip(wanted.paths, answers, strict=True)
    ]


def main() -> None:
    wanted = job(__doc__)

    def work() -> int:
        rows = asyncio.run(caption_all(wanted))
        wanted.out.write_text("\n".join(map(json.dumps, rows)))
        return sum("caption" in row for row in rows)

    measured(work, packages=("langchain-openai", "langchain-core", "openai", "Pillow"))


if __name__ == "__main__":
    main()
