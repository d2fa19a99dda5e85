"""How a run ends on the screen: its summary, why its exit code is not 0, and the next command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import click

from pipeline.cli.next_steps import after_run
from pipeline.cli.output import complain, log_event, show_lines, show_summary
from pipeline.engine.progress import counted
from pipeline.engine.stats import RunSummary
from pipeline.errors import ErrorKind, VisionBatchError

BUG = 70


@dataclass(slots=True)
class Ending:
    """What is printed at the end, by these options."""

    arguments: Sequence[str]
    """As typed."""
    as_json: bool
    quiet: bool
    log_json: bool
    code: int = BUG
    """Until the run has ended in any way that is foreseen."""
    summary: RunSummary | None = None

    @classmethod
    def of(cls, options: Mapping[str, object]) -> "Ending":
        """From the options of the command line."""
        typed = click.get_current_context().obj
        as_json, quiet, log_json = (bool(options[name]) for name in ("as_json", "quiet", "log_json"))
        return cls(typed if isinstance(typed, tuple) else (), as_json, quiet, log_json)

    def done(self, summary: RunSummary) -> int:
        """The run has asked everything."""
        self._show(summary)
        if summary.exit_code and (self.quiet or self.as_json or self.log_json):
            self.complain(_why(summary))
        self._show_next(summary)
        return summary.exit_code

    def failed(self, error: VisionBatchError) -> int:
        """The run was stopped, or has not begun."""
        summary = error.summary if isinstance(error.summary, RunSummary) else None
        if summary is not None:
            self._show(summary)
        self.complain(*error.args)
        if summary is not None:
            self._show_next(summary)
        return error.exit_code

    def _show(self, summary: RunSummary) -> None:
        self.summary = summary
        if self.log_json:
            log_event("end", summary.as_dict())
        show_summary(summary, as_json=self.as_json, quiet=self.quiet)

    def _show_next(self, summary: RunSummary) -> None:
        if not (self.as_json or self.quiet):
            show_lines(*after_run(summary, self.arguments))

    def complain(self, *lines: object) -> None:
        """An error, in the way that was asked for."""
        if self.log_json:
            log_event("error", {"message": "\n".join(map(str, lines))})
        else:
            complain(*lines)


_REFUSALS: Final = frozenset({ErrorKind.REFUSED, ErrorKind.CONTENT_FILTER})


def _why(summary: RunSummary) -> str:
    """Why the exit code of a run that went to its end is 1."""
    unit, said = "image" if summary.prompts == 1 else "row", []
    if summary.bad:
        kinds = ", ".join(f"{kind} {rows:,}" for kind, rows in summary.by_error.items() if kind not in _REFUSALS)
        has = "has" if summary.bad == 1 else "have"
        said.append(f"{counted(summary.bad, unit)} of {summary.asked:,} asked {has} no answer ({kinds})")
    if summary.bad_before:
        has = "has" if summary.bad_before == 1 else "have"
        said.append(f"{counted(summary.bad_before, 'row')} of earlier runs {has} no answer")
    return "; ".join([*said, *([f"{summary.failures} lists them"] if summary.failures else [])])
