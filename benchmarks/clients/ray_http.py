"""Ray Data: the HTTP request processor, its actors as many as there are cores to hold them, into Parquet.

Ray itself is started before the measure begins, its actors within it.
"""

from pathlib import Path
from typing import Any

import ray
from harness import MAX_TOKENS, MODEL, content, data_url, job, jpeg, measured
from ray.data.llm import HttpRequestProcessorConfig, build_processor

ACTORS = 4
"""More of them take longer to start than they save here; each holds a core of those that Ray is told of."""


def main() -> None:
    wanted = job(__doc__)
    ray.init(num_cpus=2 * ACTORS, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    resize = wanted.resize

    def request(row: dict[str, Any]) -> dict[str, Any]:
        url = data_url(jpeg(Path(row["path"]), resize=resize))
        messages = [{"role": "user", "content": content(url)}]
        return {"path": row["path"], "payload": {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": messages}}

    processor = build_processor(
        HttpRequestProcessorConfig(
            url=f"{wanted.base_url}/chat/completions",
            headers={"Authorization": "Bearer none"},
            concurrency=ACTORS,
            batch_size=max(1, wanted.slots // ACTORS),
            max_retries=2,
        ),
        preprocess=request,
        postprocess=lambda row: {
            "path": row["path"],
            "caption": row["http_response"]["choices"][0]["message"]["content"],
        },
    )

    def work() -> int:
        rows = ray.data.from_items([{"path": str(path)} for path in wanted.paths])
        processor(rows).write_parquet(str(wanted.out))
        return int(ray.data.read_parquet(str(wanted.out)).count())

    measured(work, packages=("ray", "aiohttp", "Pillow"))
    ray.shutdown()


if __name__ == "__main__":
    main()
