"""From a record to its requests, which are asked one after the other: bounded in bytes, equal ones once."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from pipeline.engine.dedup import Leaders, Waiting
from pipeline.engine.fetching import fetched
from pipeline.engine.semaphores import ByteSemaphore, GrowingByteSemaphore
from pipeline.engine.stages import Clock, EngineConfig, PromptNames, Stages
from pipeline.engine.threads import StuckError, Threads
from pipeline.engine.writer import Writer
from pipeline.errors import ErrorKind
from pipeline.records import Failure, FetchedImages, Follower, ImageRecord, Outcome, PreparedRequest

_TRIES: Final = 2
"""For a record whose thread stands still. The second time it is decoded apart: what stands still then is the disk."""

Ask = Callable[[PreparedRequest], Awaitable[None]]


class Preparation:
    """Prepares the requests of records, and holds their bytes while they are asked."""

    def __init__(self, stages: Stages, config: EngineConfig, clock: Clock, writer: Writer) -> None:
        self._stages, self._config, self._clock, self._writer = stages, config, clock, writer
        self._prepared_bytes = ByteSemaphore(config.prepared_bytes)
        self._fetched_bytes = GrowingByteSemaphore(config.fetched_bytes)
        self.leaders = Leaders(
            self._committed, is_on=config.dedup, has_rows=config.has_rows, looks_up_all=config.sees_changes
        )
        self.decoders: Threads
        self.preparers: Threads

    async def ask(self, record: ImageRecord, names: PromptNames, ask: Ask) -> None:
        """Ask a record these prompts; once more those whose leader gave no answer and that lead now."""
        waiting, leading = list[Waiting](), list[PreparedRequest]()
        while names or waiting:
            try:
                if names:
                    waiting += await self._ask_each(await self._prepared(record, names), ask)
            finally:
                for request in leading:
                    self.leaders.give_up(request)
            leading, waiting = await self._after(waiting)
            names = tuple(request.prompt_name for request in leading)

    async def _prepared(self, record: ImageRecord, names: PromptNames) -> Sequence[PreparedRequest]:
        """The requests of a record; none where there is only a failure, which the row of every prompt states."""
        async with self._fetched_bytes.share() as share:
            data = await fetched(self._stages, self._config, self._clock, record, share)
            if isinstance(data, Failure):
                failure = data
            else:
                prepared = await self._decoded(record, data, names)
                if not isinstance(prepared, Failure):
                    return prepared
                failure = prepared
        for name in names:
            await self._writer.hand_over(Outcome(record=record, prompt_name=name, result=failure))
        return ()

    async def _decoded(
        self, record: ImageRecord, data: FetchedImages, names: PromptNames
    ) -> Sequence[PreparedRequest] | Failure:
        for _ in range(_TRIES):
            try:
                found = await self.preparers.call(self._stages.undecoded, record, data, names)
                if found is None:
                    found = await self.decoders.call(self._stages.prepare, record, data, names)
            except StuckError as error:
                self._stages.stuck(record, error.thread)
            else:
                return found
        longest_s = self._config.decode_timeout_s
        message = f"reading the file takes longer than {longest_s:g} s (images.decode_timeout_s)"
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=message)

    async def replace_stuck(self) -> None:
        """Give up threads that stand still."""
        for threads in (self.preparers, self.decoders):
            threads.replace_stuck(self._config.decode_timeout_s)

    async def _ask_each(self, requests: Sequence[PreparedRequest], ask: Ask) -> list[Waiting]:
        """Ask them. What is being asked for another record already is returned without its body, with its leader.

        A leader holds the bytes that it needs, and a follower waits for it without any: none waits for ever.
        """
        if all(map(self.leaders.of, requests)):
            return [one for request in requests if (one := self.leaders.waiting(request)) is not None]
        waiting: list[Waiting] = []
        async with self._prepared_bytes.held(_held_bytes(requests)):
            for request in requests:
                one = self.leaders.waiting(request)
                if one is not None:
                    waiting.append(one)
                elif (follower := await self.leaders.lead(request)) is not None:
                    await self._writer.hand_over(follower)
                else:
                    await ask(request)
        return waiting

    async def _after(self, waiting: Sequence[Waiting]) -> tuple[list[PreparedRequest], list[Waiting]]:
        """Wait for the leaders -> the requests that lead now, and those that have another leader by now.

        Where many wait for one that fails, one prepares its image again, not all. None waits for others as a leader.
        """
        left: list[PreparedRequest] = []
        for request, leader in waiting:
            await leader.wait()
            follower = await self.leaders.lookup(request)
            if follower is None:
                left.append(request)
            else:
                await self._writer.hand_over(follower)
        led = [(request, other) for request in left if (other := self.leaders.of(request)) is not None]
        leading = [request for request in left if self.leaders.of(request) is None]
        for request in leading:
            self.leaders.take_lead(request)
        return leading, led

    async def _committed(self, request: PreparedRequest) -> Follower | None:
        return await self._writer.thread.call(self._stages.follow, request)


def _held_bytes(requests: Iterable[PreparedRequest]) -> int:
    """Memory that the bodies of a record's requests take together, with one of them in one piece to be sent."""
    bodies = [request.pieces for request in requests]
    if len(bodies) == 1 and len(bodies[0]) == 1:
        return len(bodies[0][0])
    pieces = {id(piece): len(piece) for pieces in bodies for piece in pieces}
    return sum(pieces.values()) + max((sum(map(len, pieces)) for pieces in bodies), default=0)
