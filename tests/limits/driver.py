"""The scheduler of a run, driven by the simulator as an engine's workers drive it.

python -m tests.limits.driver [--seeds 5] [--minutes 10] [--tuned] [NAME ...]
"""

from collections.abc import Sequence

from pipeline.engine.scheduler import Scheduler
from pipeline.engine.stages import Endpoint, EngineConfig, RequestState
from pipeline.engine.state import EndpointState
from pipeline.limits.decision import Action
from pipeline.records import Answer, Failure, PreparedRequest
from tests.limits.simulator import START, Model, Record, Run, main


async def never_asked(_: PreparedRequest) -> Answer | Failure:
    raise AssertionError


async def no_lease(_: object) -> None: ...


class Scheduled:
    def __init__(self, run: Run, models: Sequence[Model]) -> None:
        self._run, self._models = run, {f"e{number}": model for number, model in enumerate(models)}
        config = EngineConfig(threads=2, prepared_bytes=1 << 20)
        self.endpoints = [
            EndpointState(
                Endpoint(name=name, ask=never_asked, rpm=run.scenario.user_rpm, counts_billed=True), config, run.clock
            )
            for name in self._models
        ]
        self._scheduler = Scheduler(self.endpoints, [], no_lease, run.clock)

    @property
    def concurrency(self) -> int:
        return self._scheduler.concurrency

    @property
    def stopped(self) -> str | None:
        return self._scheduler.stopped

    async def live(self, record: Record) -> bool:
        state = RequestState(record.request, START)
        while True:
            permit = await self._scheduler.acquire(state)
            result = await self._run.asked(self._models[permit.endpoint.name], record)
            state.add(result)
            decision = self._scheduler.settle(permit, result).decision
            if decision.is_final:
                return decision.action is Action.DONE
            if decision.wait_s:
                await self._run.clock.sleep(decision.wait_s)


if __name__ == "__main__":
    main(Scheduled)
