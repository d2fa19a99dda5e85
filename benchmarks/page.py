"""The page of figures, docs/benchmarks.md, and its picture: made of what was measured on this machine, and when."""

import json
import os
import platform
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import CLIENTS, Client
from families import names, prompt_shape
from harness import MODEL
from turns import RPM, WORKS, Results, Turn, Work

BUSY = 1.5
"""Runnable processes a core from which the machine counts as shared."""
OURS, BARE = "ours", "bare"
WIDTH, LEFT, ROW, BAR = 760, 230, 22, 14

INTRO = """\
# Benchmarks

`make bench` made this page: it draws the images, installs each alternative into an environment of its
own, starts an endpoint that only counts what arrives, and runs all clients in turns on the same work.
Absolute figures hold for this machine and this hour. Compare the ratios.

Each client is written as its documentation says (`benchmarks/clients/`, `benchmarks/by_hand.py`).
Clients that do not make images smaller themselves get the same helper: Pillow, a full decode,
LANCZOS. The bare loop is aiohttp and uvloop with the fastest JPEG path, without retries, limits,
ledger or files of results: it shows what a request costs, and is no alternative. vision-batch is
measured with its ledger and its Parquet files. Memory is that of all processes of a client. Starting
the interpreter and importing count for memory only; what a client does once per job (opening its
files, Ray's actors) counts for time too, and weighs the more the fewer images a turn has.
"""
AFTERWARDS = """\
## Run it yourself

`make bench` goes on where it was stopped; a turn is taken anew where the client's code has changed,
or with `BENCH_ARGS="--fresh"`. `BENCH_ARGS="--only ours,bare --works small-64 --turns 5"` takes a
part of it. `make bench-scale` measures 1,000 to a million records, and keeps what it has measured.

`make bench-guard` counts the instructions of one record with valgrind, and fails where they differ
from the recorded number by more than a tenth: seconds depend on the machine, instructions hardly.
It catches work that is added to every record (reading, engine, preparation, HTTP, ledger, parts); it
sees neither waiting nor the decoding of large images. Without valgrind it compares the CPU time of a
record with the bare loop's, within a wider tolerance.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One client in one work: medians of its turns."""

    client: Client
    turns: Sequence[Turn]

    @property
    def rates(self) -> list[float]:
        return sorted(turn.measured.images_per_s for turn in self.turns if turn.measured)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu_ms(self) -> float:
        return statistics.median(turn.measured.cpu_ms for turn in self.turns if turn.measured)

    @property
    def peak_mb(self) -> float:
        return statistics.median(turn.measured.peak_mb for turn in self.turns if turn.measured)

    @property
    def kb_each(self) -> float:
        return statistics.median(turn.sent_bytes / turn.count / 1000 for turn in self.turns)

    def found(self, name: str) -> str:
        values = [turn.found[name] for turn in self.turns if name in turn.found]
        return f"{statistics.median(values):,.0f}" if values else "-"


class Found:
    """The turns that hold for the code as it is: of each work, those of the most images."""

    def __init__(self, results: Results) -> None:
        digests = {client.name: client.digest() for client in CLIENTS}
        self.turns = [turn for turn in results.turns.values() if turn.digest == digests.get(turn.client)]

    def rows(self, work: Work) -> list[Row]:
        own = [turn for turn in self.turns if turn.work == work.name]
        most = max((turn.count for turn in own if turn.measured), default=0)
        taken = [turn for turn in own if turn.count == most and turn.measured]
        rows = [Row(client, [turn for turn in taken if turn.client == client.name]) for client in CLIENTS]
        return [row for row in rows if row.turns]

    def problems(self) -> Iterator[tuple[Client, Work, str]]:
        """Every client that has no figure for a work, and why."""
        for work in WORKS:
            measured = {row.client.name for row in self.rows(work)}
            for client in CLIENTS:
                if client.name not in measured and (work.kind == "speed" or client.limited):
                    own = [turn for turn in self.turns if (turn.client, turn.work) == (client.name, work.name)]
                    yield client, work, (own[-1].problem if own else None) or "it was not run"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "an unnamed processor"


def machine(found: Found, rate: float) -> str:
    loads = [turn.load for turn in found.turns]
    days = sorted(turn.when[:10] for turn in found.turns)
    dates = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    cores = os.cpu_count() or 1
    low, high = min(loads), max(loads)
    if statistics.median(loads) > BUSY * cores:
        shared = (
            f"**The machine was shared while this was measured**: its load was {low:.1f} to {high:.1f} on {cores} "
            "cores when turns began. Images a second are lower than on a free machine and scatter with what "
            "else went on; CPU time an image scatters far less, and is what to compare here."
        )
    else:
        shared = f"The load of the machine was {low:.1f} to {high:.1f} when turns began."
    return (
        f"Measured on {dates}: {cores} cores of {cpu_name()}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}. The endpoint runs on the same cores; with a client that only writes "
        f"it answers {rate:,.0f} requests of 100 KB a second.\n\n{shared}\n"
    )


def versions(found: Found) -> str:
    lines = ["| client | versions |", "|---|---|"]
    for client in CLIENTS:
        newest = [turn.measured.versions for turn in found.turns if turn.client == client.name and turn.measured]
        if newest:
            said = ", ".join(f"{name} {number}" for name, number in newest[-1].items())
            lines.append(f"| {client.title} | {said} |")
    return "\n".join(lines)


def speed_table(rows: Sequence[Row]) -> str:
    best = max((row.rate for row in rows if row.client.name not in {OURS, BARE}), default=None)
    bare = next((row.rate for row in rows if row.client.name == BARE), None)
    work_of_bare = next((row.cpu_ms for row in rows if row.client.name == BARE), None)
    lines = [
        "| client | images/s (range) | turns | x fastest other | x bare | CPU ms | x bare | peak MB | KB sent |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = f"{row.rate:.1f} ({row.rates[0]:.1f} to {row.rates[-1]:.1f})"
        speed = f"{span} | {len(row.turns)} | {ratio(row.rate, best)} | {ratio(row.rate, bare)}"
        cpu = f"{row.cpu_ms:.2f} | {ratio(row.cpu_ms, work_of_bare)}"
        lines.append(f"| {row.client.title} | {speed} | {cpu} | {row.peak_mb:,.0f} | {row.kb_each:,.0f} |")
    return "\n".join(lines)


def ratio(rate: float, other: float | None) -> str:
    return f"{rate / other:.2f}" if other else "-"


def faults(found: Found) -> str:
    """What the works that are not about speed found, one row a client."""
    by_kind = {work.kind: {row.client.name: row for row in found.rows(work)} for work in WORKS if work.kind != "speed"}
    counts = {kind: next(iter(rows.values())).turns[0].count for kind, rows in by_kind.items() if rows}
    billed, asked = f"tokens of {counts.get('bill', 0)} photographs", f"429s, {counts.get('limit', 0)} rows, {RPM} RPM"
    lines = [
        f"| client | {billed} | {asked} | rows failed | seconds | answers paid twice after kill -9 |",
        "|---|---|---|---|---|---|",
    ]
    for client in CLIENTS:
        rows = {kind: of_kind[client.name] for kind, of_kind in by_kind.items() if client.name in of_kind}
        if rows:
            bill, limit, kill = rows.get("bill"), rows.get("limit"), rows.get("kill")
            took = statistics.median(t.measured.wall_s for t in limit.turns if t.measured) if limit else None
            lines.append(
                f"| {client.title} | {bill.found('tokens') if bill else '-'} "
                f"| {limit.found('refused') if limit else '-'} | {limit.found('failed') if limit else '-'} "
                f"| {f'{took:.0f}' if took else '-'} | {kill.found('repaid') if kill else '-'} |"
            )
    return "\n".join(lines)


def estimate_error(found: Found) -> str:
    for work in WORKS:
        for row in found.rows(work):
            for turn in row.turns:
                if "estimated" in turn.found:
                    off = abs(turn.found["estimated"] - turn.found["tokens"]) / turn.found["tokens"]
                    return (
                        f"vision-batch's estimate before the run was {turn.found['estimated']:,.0f} prompt tokens, "
                        f"{off:.2%} off the bill.\nThe other clients have no estimate.\n"
                    )
    return ""


def read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


PHOTO = (4032, 3024)


def photographs(found: Found) -> Iterator[str]:
    """What is sent and billed of a 12-megapixel photograph, by family: computed by the published rules."""
    yield "## What a photograph of 12 megapixels costs\n"
    for work in WORKS:
        for row in found.rows(work):
            if work.large and work.kind == "speed" and row.client.name == OURS:
                file_kb = row.turns[-1].found["file_kb"]
                share = f"1/{file_kb / row.kb_each:.0f}"
                yield (
                    f"A file of {file_kb:,.0f} KB is sent to `{MODEL}` as {row.kb_each:,.0f} KB, base64, prompt and "
                    f"HTTP headers included: {share} of it. The drawn files are saved at the quality at which they are "
                    "sent (85). Two real photographs of that quality, made smaller by four, took 1.2 and 1.3 times as "
                    "many bits a pixel, which makes a ninth of such a file; a file that was saved at a higher quality "
                    "shrinks further.\n"
                )
    yield (
        "Prompt tokens of one image by the rule of each family: of the file as it is, which the provider makes "
        "smaller where its model demands it, and as vision-batch sends it with the settings as they come:\n"
    )
    alike: dict[tuple[str, int, int], list[str]] = {}
    for family, model in names():
        asked = prompt_shape(model)
        sent = asked.sent(*PHOTO)
        before, after = asked.unsized_tokens(*PHOTO), asked.rule.tokens(*sent, asked.detail).expected
        alike.setdefault((f"{sent[0]} x {sent[1]}", before, after), []).append(family.name)
    lines = ["| families | sent as | tokens of the file | tokens as sent |", "|---|---|---|---|"]
    for (size, before, after), families in alike.items():
        lines.append(f"| {', '.join(families)} | {size} | {before:,} | {after:,} |")
    yield "\n".join(lines) + "\n"


def wrapped(part: str) -> str:
    """Prose in lines of at most 100 characters; tables, headings and lists stay as they are."""
    paragraphs = []
    for paragraph in part.split("\n\n"):
        if paragraph.lstrip().startswith(("|", "#", "!")):
            paragraphs.append(paragraph)
        elif paragraph.startswith("- "):
            lines = paragraph.splitlines()
            paragraphs.append("\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines))
        else:
            paragraphs.append(textwrap.fill(paragraph, 100, break_on_hyphens=False) if paragraph.strip() else paragraph)
    return "\n\n".join(paragraphs).rstrip("\n") + "\n"


def sections(found: Found, cache: Path) -> Iterator[str]:
    for work in WORKS:
        rows = found.rows(work)
        if work.kind == "speed" and rows:
            yield f"## {work.title[0].upper()}{work.title[1:]}\n\n{rows[0].turns[0].count:,} images a turn.\n"
            yield speed_table(rows) + "\n"
    for name in ("stages.md", "scale.md"):
        written = cache / name
        if written.exists():
            yield written.read_text(encoding="utf-8")
    yield from photographs(found)
    yield "## Bills, limits and kills\n"
    yield (
        "Each client meets an emulator of its own, which counts, and bills by the published rule of the model. "
        "The limit is given to clients that take one: vision-batch, the cookbook's processor and Curator. "
        "After `kill -9`, when half of the answers had come, the same line is run again: an answer that is paid a "
        "second time counts. A kill costs at least the requests in flight, 16 here; scripts that keep nothing "
        "pay for all that came before it.\n"
    )
    yield faults(found) + "\n"
    yield estimate_error(found)
    yield "## Versions\n"
    yield versions(found) + "\n"
    problems = list(dict.fromkeys(f"- {client.title}, {work.name}: {why}" for client, work, why in found.problems()))
    yield "## Not measured\n"
    yield ("\n".join(problems) if problems else "Nothing: every client did every work.") + "\n"
    yield AFTERWARDS


def bars(rows: Sequence[Row], top: int, title: str) -> Iterator[str]:
    most = max(row.rate for row in rows)
    yield f'<text x="8" y="{top + 15}" class="title">{escaped(title)}</text>'
    for number, row in enumerate(rows, 1):
        y, length = top + 4 + number * ROW, max(1.0, (WIDTH - LEFT - 90) * row.rate / most)
        kind = row.client.name if row.client.name in {OURS, BARE} else "other"
        yield f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{escaped(row.client.title)}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" class="{kind}"/>'
        yield f'<text x="{LEFT + length + 6:.1f}" y="{y + 11}">{row.rate:,.0f}</text>'


def escaped(text: str) -> str:
    return text.replace("`", "").replace("&", "&amp;").replace("<", "&lt;")


def picture(found: Found) -> str:
    """Images a second as bars, one group a work, each group on a scale of its own."""
    drawn: list[str] = []
    top = 8
    for work in WORKS:
        rows = found.rows(work)
        if work.kind == "speed" and rows:
            drawn += bars(rows, top, f"{work.title[0].upper()}{work.title[1:]}: images/s")
            top += (len(rows) + 1) * ROW + 20
    style = (
        "text{font:12px sans-serif;fill:#24292f}.title{font-weight:bold}"
        ".ours{fill:#1a7f37}.bare{fill:#8c959f}.other{fill:#0969da}"
    )
    said = 'role="img" aria-label="Images a second of each client, by work"'
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    background = f'<style>{style}</style><rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {said}>', background, *drawn, "</svg>\n"])


def write_page(page: Path, cache: Path, rate: float) -> None:
    """`page`, and beside it its picture, of all that the cache holds."""
    found = Found(Results(cache / "turns.jsonl"))
    if not found.turns:
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    drawn = page.with_suffix(".svg")
    drawn.write_text(picture(found), encoding="utf-8")
    parts: Iterable[str] = [
        INTRO,
        machine(found, rate),
        f"![Images a second of each client, by work]({drawn.name})\n",
        *sections(found, cache),
    ]
    page.write_text("\n".join(wrapped(part) for part in parts if part), encoding="utf-8")
