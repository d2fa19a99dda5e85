"""How one endpoint is asked for labels during a run, and how its answers are read."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from pipeline.endpoints.texts import without_thoughts
from pipeline.errors import ErrorKind
from pipeline.labels.sending import LabelsMode
from pipeline.records import Answer, Failure, PreparedRequest, Status

_WORDS: Final = ("response_format", "text.format", "json_schema", "json_object")
"""What the rejection of a request names that asks for JSON in a way which the endpoint does not have."""


class Adapted(Protocol):
    """The template's way to change a body."""

    def __call__(self, body: bytes, mode: LabelsMode, corrected: Answer | None = None, /) -> bytes: ...


class EndpointLabels:
    """One endpoint of a labelling run. Until it has answered it may turn out to take less than was thought."""

    def __init__(
        self,
        adapted: Adapted,
        read: Callable[[Answer], Answer],
        mode: LabelsMode,
        *,
        name: str,
        is_fixed: bool,
        say: Callable[[str], None],
    ) -> None:
        """`read` makes labels of an answer. With `is_fixed` the mode stays; `say` shows a line to the user."""
        self._adapted, self._read, self.mode = adapted, read, mode
        self._name, self._is_fixed, self._say = name, is_fixed, say
        self._has_answered = False

    def body(self, request: PreparedRequest) -> bytes:
        """The body of a request as this endpoint takes it."""
        return self._adapted(request.body, self.mode, request.corrects)

    def read(self, result: Answer | Failure, sent: LabelsMode) -> Answer | Failure:
        """A result of a request that was sent in the mode `sent`."""
        if isinstance(result, Answer):
            self._has_answered = self._has_answered or (sent is self.mode and result.status is not Status.REFUSED)
            return self._labelled(result)
        names_format = result.kind is ErrorKind.BAD_REQUEST and any(word in result.message for word in _WORDS)
        if not names_format or not self._steps_down(sent, result.message):
            return result
        return replace(result, kind=ErrorKind.FORMAT_REJECTED)

    def _labelled(self, answer: Answer) -> Answer:
        """The answer with its labels, which stand outside its thoughts, also where the caption keeps those."""
        text = without_thoughts(answer.caption or "") or None
        return replace(self._read(replace(answer, caption=text)), caption=answer.caption)

    def _steps_down(self, sent: LabelsMode, words: str) -> bool:
        """Whether the request is worth sending in the mode that counts from now on."""
        if sent is not self.mode:
            return True
        if self._is_fixed or self._has_answered or sent.below is None:
            return False
        self.mode = sent.below
        self._say(
            f"note: {self._name} rejects `{sent}` ({words}): from now on it is asked with "
            f"`request.labels_mode={self.mode}`"
        )
        return True
