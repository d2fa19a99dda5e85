"""The next command to type, which every command for people says at its end."""

import shlex
from collections.abc import Mapping, Sequence

from pipeline.engine.stats import RunSummary
from pipeline.formatting import printable
from pipeline.limits.decision import TRANSIENT
from pipeline.records import EMULATOR, Status
from pipeline.redaction.addresses import public_text

COMMAND = "vision-batch"
INTERRUPTED = 128
"""Exit codes beyond it are this and the number of a signal."""
LONGEST = 300
"""Characters of a command that is worth repeating."""
_TRANSIENT = {kind.value for kind in TRANSIENT}


def typed(arguments: Sequence[str], *more: str) -> str:
    """A command as its user typed it, for a shell, with further words; without what an address may hold of a key."""
    text = public_text(shlex.join([COMMAND, *arguments, *more]))
    return text if len(text) <= LONGEST and text.isprintable() else "the same command"


def named(command: str, *words: object) -> str:
    """A command of ours with these words."""
    return public_text(printable(shlex.join([COMMAND, command, *map(str, words)])))


def after_run(summary: RunSummary, arguments: Sequence[str]) -> list[str]:
    """What to do after a run, by how it ended; nothing where a message has just said it."""
    if summary.exit_code > INTERRUPTED:
        return [f"next: {typed(arguments)}"]
    if summary.stopped is not None or not (summary.asked or summary.skipped):  # the reason says what to do about it
        return []
    if any(kind in _TRANSIENT for kind in summary.by_error):
        return [f"next: {typed(arguments)}  (asks again what failed for a transient reason)"]
    if (cut := summary.by_status.get(Status.TRUNCATED, 0)) > summary.asked // 10:
        again = typed(arguments, "--retry-status", "truncated", "--max-tokens", "N")
        return [f"next: {again}  (asks the {cut:,} that are cut off again, for longer answers)"]
    if summary.endpoint == EMULATOR:
        return [f"next: export OPENAI_API_KEY=..., then {named('check', '-c', 'openai')}  (a real endpoint)"]
    return [f"next: {named('view', summary.out)}  (look at the answers beside their images)"]


def after_check(settings: Mapping[str, object], config: str | None) -> str:
    """After an endpoint has answered: what a folder would cost."""
    return f"next: {named('estimate', 'FOLDER', *_asked_with(settings, config))}  (what a folder of yours would cost)"


def after_estimate(
    sources: Sequence[str],
    settings: Mapping[str, object],
    config: str | None,
    overrides: Sequence[str] = (),
    *,
    has_model: bool = True,
) -> str:
    """After the cost is known: the run, with the settings that were given by their keys."""
    words = [word for one in overrides for word in ("--set", one)]
    words += [] if has_model else ["--model", "NAME"]
    why = "" if has_model else "  (a server of one model is not asked which: leave out --model)"
    return f"next: {named('run', *sources, '-o', 'OUT', *_asked_with(settings, config), *words)}{why}"


def _asked_with(settings: Mapping[str, object], config: str | None) -> list[str]:
    """The words that name an endpoint and a model, as they were given."""
    words = [] if config is None else ["-c", config]
    for name in ("base_url", "model"):
        value = settings.get(name)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one:
                words += [f"--{name.replace('_', '-')}", public_text(str(one))]
    return words
