"""Which settings of `[request]` belong to which task: one that its task does not send is an error."""

from typing import Final

from pipeline.config.sections import DEFAULT_PROMPT, RequestConfig, parameter_names
from pipeline.config.tasks import TASKS

_OF_CHAT: Final = (
    "system", "system_name", "user_name", "messages", "image_position", "message_layout", "labels", "detail",
    "max_tokens", "reasoning_allowance", "stream",
)  # fmt: skip
"""Settings that only a chat's request has, beside the API's parameters."""


def check_task(request: RequestConfig, *, names_prompts: bool) -> None:
    """Raises ValueError that names the setting and the task which do not fit each other.

    `names_prompts` says that there are `[[prompts]]`.
    """
    task, fields = request.task, RequestConfig.model_fields
    for name, default in TASKS.items():
        if name != task and getattr(request, name) != default:
            raise ValueError(f"`request.{name}` is for `request.task={name}`, and the task is {task}; change one")
    if task not in TASKS:
        return
    if request.labels is None and (names_prompts or request.prompt != DEFAULT_PROMPT):
        key = "prompts" if names_prompts else "request.prompt"
        raise ValueError(f"`request.task={task}` takes no prompt: take out `{key}`, or ask it with the task caption")
    given = (name for name in (*_OF_CHAT, *sorted(parameter_names())))
    unsent = next((name for name in given if getattr(request, name) != fields[name].default), None)
    if unsent is not None:
        raise ValueError(f"`request.{unsent}` is for the task caption: `request.task={task}` does not send it")
