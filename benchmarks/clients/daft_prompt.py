"""Daft: files to bytes, and the `prompt` function over its OpenAI provider with Chat Completions, into Parquet."""

import os

os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")

import daft
from daft.functions import prompt
from harness import MAX_TOKENS, MODEL, PROMPT, job, jpeg, measured


def main() -> None:
    wanted = job(__doc__)
    daft.set_provider("openai", api_key="none", base_url=wanted.base_url)

    @daft.func(return_dtype=daft.DataType.binary())
    def image(path: str) -> bytes:
        from pathlib import Path  # noqa: PLC0415 - the function is pickled

        return jpeg(Path(path), resize=wanted.resize)

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
