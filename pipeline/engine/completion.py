"""What follows on the last attempt of a record: the hook, the writer, and whether the run goes on."""

from collections.abc import Callable
from dataclasses import replace

from pipeline.engine.hooks import Ask, failed
from pipeline.engine.stages import EngineConfig, RequestState, Stages
from pipeline.engine.writer import Writer
from pipeline.errors import EndpointStoppedError
from pipeline.limits.health import Health, way_out
from pipeline.records import Answer, Outcome, Status, is_unanswered


class Completion:
    """Takes the outcomes of a run to the writer."""

    def __init__(
        self, stages: Stages, config: EngineConfig, writer: Writer, stop: Callable[[EndpointStoppedError], None]
    ) -> None:
        """`stop` ends the run: its records end alike."""
        self._stages, self._writer, self._stop = stages, writer, stop
        self._most_asks = config.max_failures
        self._health = Health(config.max_error_rate, config.has_answers)

    async def complete(self, state: RequestState, answered: Outcome) -> bool:
        """Hand a row over; False where a hook has its record asked once more."""
        outcome = await self._after(state, answered)
        if outcome is None:
            if answered.answered_at is not None:  # its bill belongs to the row that will be
                await self._writer.hand_over(state.billed(answered.result, answered.answered_at))
            return False
        self._check_health(outcome)  # first: while this waits for the writer, another request could be sent
        await self._writer.hand_over(outcome)
        return True

    def _check_health(self, outcome: Outcome) -> None:
        """Stop a run whose records end alike."""
        good = outcome.status is not Status.REFUSED and not is_unanswered(outcome.status, outcome.error_kind)
        alike = self._health.add(None if good else outcome.error_kind)
        if alike is not None:
            mended = f"{way_out(alike)}; then `retry_kind={alike}` asks them again"
            self._stop(EndpointStoppedError(f"the records end alike ({alike}): {outcome.error_message} - {mended}"))

    async def _after(self, state: RequestState, outcome: Outcome) -> Outcome | None:
        """The outcome as the hook leaves it; None where the record is asked once more."""
        if self._stages.after is None or not isinstance(outcome.result, Answer):
            return outcome
        try:
            reply = await self._stages.after(outcome)
        except BaseException:  # the run waits no longer, and the answer was paid for
            self._writer.late.append(failed(outcome, "the run was stopped before the hook had finished"))
            raise
        if not isinstance(reply, Ask):
            return reply
        if state.asked_again == self._most_asks:
            return failed(outcome, f"the hook asks again after {self._most_asks} times (request.max_failures)")
        state.asked_again += 1
        state.request = replace(state.request, corrects=None)  # asked as at first
        if reply.prompt is not None:
            try:
                state.request = self._stages.reword(state.first, reply.prompt)
            except ValueError as error:
                return failed(outcome, str(error))
        return None
