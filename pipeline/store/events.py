"""What happened during runs besides answers: the pauses, in the ledger's table `event`."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pipeline import files
from pipeline.errors import OutInUseError
from pipeline.limits.pauses import Paused
from pipeline.store.ledger.protocol import Ledger
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.opening import LEDGER_NAME
from pipeline.store.outdir import STATUS_NAME

PAUSE: Final = "pause"


def note_pauses(ledger: Ledger, pauses: Sequence[Paused]) -> None:
    """Store the pauses of the run under way; one that has become longer replaces itself."""
    ledger.note_events(PAUSE, {_event_id(pause): json.dumps(as_json(pause)).encode() for pause in pauses})


def read_pauses(out: Path) -> list[Paused]:
    """All pauses of an OUT, the earliest first; while a run holds the ledger, those of that run."""
    try:
        with SqliteLedger(out / LEDGER_NAME) as ledger:
            found = [_loaded(detail) for detail in ledger.events(PAUSE)]
    except OutInUseError:
        found = [_paused(one) for one in _published(out)]
    return sorted((pause for pause in found if pause is not None), key=lambda pause: pause.began_at)


def as_json(pause: Paused) -> dict[str, object]:
    """Plain values."""
    return asdict(pause) | {name: getattr(pause, name).isoformat() for name in ("began_at", "ended_at")}


def _event_id(pause: Paused) -> str:
    """When it began; two endpoints may pause at once."""
    return f"{pause.began_at.isoformat()} {pause.endpoint}"


def _published(out: Path) -> Sequence[Any]:
    with suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads(files.read(out / STATUS_NAME))["pauses"]
        return found if isinstance(found, list) else []
    return []


def _loaded(detail: bytes) -> Paused | None:
    with suppress(ValueError):
        return _paused(json.loads(detail))
    return None


def _paused(values: Any) -> Paused | None:  # noqa: ANN401 - of a file that may be damaged
    if not isinstance(values, Mapping):
        return None
    with suppress(TypeError, ValueError, KeyError):
        dates = {name: datetime.fromisoformat(values[name]) for name in ("began_at", "ended_at")}
        return Paused(**{**values, **dates})
    return None
