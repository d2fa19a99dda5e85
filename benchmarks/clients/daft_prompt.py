"""Daft: files to bytes, and the `prompt` function over its OpenAI provider with Chat Completions, into Parquet."""

from pathlib import Path

import daft
from daft.functions import prompt
from harness import MAX_TOKENS, MODEL, PROMPT, job, jpeg, measured


def main() -> None:
    wanted = job(__doc__)
    daft.set_provider("openai", api_key="none", base_url=wanted.base_url)

    def read(path: str) -> bytes:
        return jpeg(Path(path), resize=wanted.resize)

    image = daft.func(return_dtype=daft.DataType.binary())(read)

    def work() -> int:
        frame = daft.from_pydict({"path": [str(path) for path in wanted.paths]})
        asked = prompt(
            [daft.lit(PROMPT), image(daft.col("path"))],
            provider="openai",
            model=MODEL,
            use_chat_completions=True,
            max_tokens=MAX_TOKENS,
            concurrency=wanted.slots,
            on_error="ignore",
        )
        answers = frame.with_column("caption", asked)
        answers.write_parquet(str(wanted.out))
        return int(daft.read_parquet(f"{wanted.out}/*.parquet").where(daft.col("caption").not_null()).count_rows())

    measured(work, packages=("daft", "openai", "Pillow"))


if __name__ == "__main__":
    main()
