"""Remote images of a record, fetched again after failures that pass."""

from pipeline.engine.semaphores import Share
from pipeline.engine.stages import Clock, EngineConfig, Stages
from pipeline.limits.fetching import fetch_retry_s
from pipeline.records import Failure, FetchedImages, ImageRecord


async def fetched(
    stages: Stages, config: EngineConfig, clock: Clock, record: ImageRecord, share: Share
) -> FetchedImages | Failure:
    """The bytes, or the last failure. `share` counts them from the first; a wait holds none."""
    failures = 0
    while True:
        data = await stages.fetch(record, share.grow)
        failures += 1
        if not isinstance(data, Failure):
            return data
        wait_s = fetch_retry_s(
            data,
            failures,
            max_failures=config.max_failures,
            max_wait_s=config.max_wait_s,
            rand=clock.random.random(),
        )
        if wait_s is None:
            return data
        share.clear()
        await clock.sleep(wait_s)
