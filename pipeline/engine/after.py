"""The stage between an answer and the writer: what a hook makes of the answer, or that the record is asked again."""

from collections.abc import Callable

from pipeline.engine.hooks import Ask, failed
from pipeline.engine.stages import RequestState, Stages
from pipeline.records import Answer, Outcome


async def after_answer(
    stages: Stages, state: RequestState, outcome: Outcome, most: int, late: Callable[[Outcome], None]
) -> Outcome | None:
    """The outcome as its row will be; None where the record is asked again, which happens `most` times at most.

    `late` takes the row of a hook that the end of the run cuts off: its answer was paid for.
    """
    if stages.after is None or not isinstance(outcome.result, Answer):
        return outcome
    try:
        reply = await stages.after(outcome)
    except BaseException:
        late(failed(outcome, "the run was stopped before the hook had finished"))
        raise
    if not isinstance(reply, Ask):
        return reply
    if state.asked_again == most:
        return failed(outcome, f"the hook asks again after {most} times (request.max_failures)")
    state.asked_again += 1
    if reply.prompt is not None:
        try:
            state.request = stages.reword(state.request, reply.prompt)
        except ValueError as error:
            return failed(outcome, str(error))
    return None
