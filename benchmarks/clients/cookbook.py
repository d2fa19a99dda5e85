"""The pattern of the OpenAI cookbook's parallel processor: a file of requests, a loop that admits them, a task each.

Written anew after its published description: requests are read from a JSONL file (which is made first, as its user
must), admitted by counts of requests and tokens a minute, started a millisecond apart, retried up to five times, and
written to a JSONL file with their answers. A rate limit pauses everything for 15 s where the error's code is "429".
The number of requests in flight is that of aiohttp's connector.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from harness import MAX_TOKENS, MODEL, Job, content, data_url, job, jpeg, measured

PAUSE_S, SLEEP_S, ATTEMPTS = 15, 0.001, 5
UNLIMITED = 1e9


@dataclass(slots=True)
class Tracker:
    in_progress: int = 0
    succeeded: int = 0
    limited_at: float = -PAUSE_S
    retries: list["Request"] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    body: dict[str, Any]
    name: str
    attempts_left: int = ATTEMPTS
    errors: list[str] = field(default_factory=list)

    async def call(self, session: aiohttp.ClientSession, url: str, out: Path, tracker: Tracker) -> None:
        try:
            async with session.post(url, json=self.body, headers={"Authorization": "Bearer none"}) as response:
                answer = await response.json()
            error = answer.get("error")
            if error and str(error.get("code")) == "429":
                tracker.limited_at = time.monotonic()
        except (aiohttp.ClientError, ValueError) as problem:
            answer, error = None, problem
        if error and self.attempts_left:
            self.errors.append(str(error))
            tracker.retries.append(self)
            return
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps([self.body, answer if not error else self.errors, {"id": self.name}]) + "\n")
        tracker.in_progress -= 1
        tracker.succeeded += not error


def write_requests(wanted: Job, into: Path) -> None:
    with into.open("w", encoding="utf-8") as file:
        for path in wanted.paths:
            url = data_url(jpeg(path, resize=wanted.resize))
            messages = [{"role": "user", "content": content(url)}]
            body = {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": messages, "metadata": {"id": path.name}}
            file.write(json.dumps(body) + "\n")


async def process(wanted: Job, requests: Path) -> int:
    tracker, per_minute = Tracker(), wanted.rpm or UNLIMITED
    capacity, updated, waiting = float(per_minute), time.monotonic(), None
    url = f"{wanted.base_url}/chat/completions"
    with requests.open(encoding="utf-8") as lines:
        async with aiohttp.ClientSession() as session:
            tasks: set[asyncio.Task[None]] = set()
            unread = True
            while True:
                if waiting is None and tracker.retries:
                    waiting = tracker.retries.pop(0)
                elif waiting is None and unread:
                    line = next(lines, None)
                    if line is None:
                        unread = False
                    else:
                        body = json.loads(line)
                        waiting = Request(body, body.pop("metadata")["id"])
                        tracker.in_progress += 1
                now = time.monotonic()
                capacity, updated = min(capacity + per_minute * (now - updated) / 60, per_minute), now
                if waiting and capacity >= 1:
                    capacity -= 1
                    waiting.attempts_left -= 1
                    task = asyncio.create_task(waiting.call(session, url, wanted.out, tracker))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    waiting = None
                if not tracker.in_progress:
                    return tracker.succeeded
                await asyncio.sleep(SLEEP_S)
                await asyncio.sleep(max(0.0, tracker.limited_at + PAUSE_S - time.monotonic()))


def main() -> None:
    wanted = job(__doc__)

    def work() -> int:
        requests = wanted.out.with_suffix(".requests.jsonl")
        write_requests(wanted, requests)
        return asyncio.run(process(wanted, requests))

    measured(work, packages=("aiohttp", "Pillow"))


if __name__ == "__main__":
    main()
