"""Bespoke Curator: an `LLM` whose prompt returns the question and an image; its own file cache is what it keeps.

The tables of tokens that it would download are those that LiteLLM brings (`offline` in processes.py).
"""

from pathlib import Path
from typing import Any

from bespokelabs import curator
from harness import MAX_TOKENS, MODEL, PROMPT, data_url, job, jpeg, measured

UNLIMITED = 10_000_000


class Captioner(curator.LLM):  # type: ignore[misc] # not installed where types are checked
    resize = False

    def prompt(self, input: dict[str, str]) -> tuple[str, curator.types.Image]:  # noqa: A002 - the name is Curator's
        return PROMPT, curator.types.Image(url=data_url(jpeg(Path(input["path"]), resize=self.resize)))

    def parse(self, input: dict[str, str], response: str) -> dict[str, Any]:  # noqa: A002 - the name is Curator's
        return {"path": input["path"], "caption": response}


def main() -> None:
    wanted = job(__doc__)
    Captioner.resize = wanted.resize
    captioner = Captioner(
        model_name=MODEL,
        backend="openai",
        generation_params={"max_tokens": MAX_TOKENS},
        backend_params={
            "base_url": wanted.base_url,
            "api_key": "none",
            "max_requests_per_minute": wanted.rpm or UNLIMITED,
            "max_tokens_per_minute": 1000 * UNLIMITED,
            "max_concurrent_requests": wanted.slots,
            "require_all_responses": False,
        },
    )

    def work() -> int:
        answers = captioner([{"path": str(path)} for path in wanted.paths], working_dir=str(wanted.out))
        return sum(bool(caption) for caption in answers.dataset["caption"])

    measured(work, packages=("bespokelabs-curator", "litellm", "aiohttp", "Pillow"))


if __name__ == "__main__":
    main()
