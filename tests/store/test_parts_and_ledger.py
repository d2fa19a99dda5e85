"""`data/` against the ledger: what was damaged, removed or added is said, by `status` and by `run`, before anything is
paid; and `rebuild` mends it.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.commands.status import lines
from pipeline.errors import ResourceError
from tests import builders, warm
from tests.stub import Stub, stub
from tests.support import MakeImage

ROOT = Path(__file__).parents[2]
ROWS = {"output.rows_per_part": 4, "request.dedup": False}


def part(number: int) -> Path:
    return Path("out/data") / f"part-{number:05d}.parquet"


def ask(server: Stub) -> pipeline.RunSummary:
    return builders.ask("photos", server.base_url, overrides=ROWS)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return warm.run(["-m", "pipeline", *words])


def rewrite(number: int, change: Callable[[Any], Any]) -> None:
    pq.write_table(change(pq.read_table(part(number))), part(number))


def flip(number: int, column: str) -> None:
    """One bit of the last value of a column."""
    group = pq.read_metadata(part(number)).row_group(0)
    (chunk,) = (chunk for at in range(group.num_columns) if (chunk := group.column(at)).path_in_schema == column)
    data = bytearray(part(number).read_bytes())
    data[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1] ^= 1
    part(number).write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[], object], str, int]] = {
    "removed rows": (lambda: rewrite(0, lambda table: table.slice(1)), "part-00000.parquet has 3 rows, and 4", 1),
    "doubled rows": (lambda: rewrite(1, double), "part-00001.parquet has 8 rows, and 4 were", 0),
    "a removed part": (lambda: part(1).unlink(), "part-00001.parquet is gone", 4),
    "a copied part": (lambda: shutil.copy(part(0), part(7)), "part-00007.parquet (4 rows) was not written", 0),
    "a copy as the next part": (
        lambda: shutil.copy(part(0), part(3)),
        "part-00003.parquet (4 rows) was not",
        0,
    ),
    "a cut part": (lambda: os.truncate(part(0), 900), "part-00000.parquet cannot be read", 4),
    "an emptied part": (lambda: os.truncate(part(1), 0), "part-00001.parquet cannot be read", 4),
}


def double(table: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - only here

    return pa.concat_tables([table, table])


@pytest.fixture
def photos(make_image: MakeImage) -> None:
    for number in range(10):
        make_image(f"photos/{number}.png", 20 + number, 16, seed=number)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_before_anything_is_paid(damage: str) -> None:
    """Three parts, one of them damaged: `status` says which and how, `run` ends with exit code 5, and a new image is
    not asked; after `rebuild` the next run asks exactly the records that lost their row, and the new one.
    """
    harm, said, lost = DAMAGES[damage]
    with stub() as server:
        assert ask(server).asked == 10
        found = pipeline.status("out")
        assert (found.damage, "damage" in "\n".join(lines(found))) == ((), False)
        harm()
        shutil.copy("photos/0.png", "photos/new.png")
        before = server.asked.total()
        (line,) = pipeline.status("out").damage
        assert said in line
        with pytest.raises(ResourceError, match="rebuild out") as caught:
            ask(server)
        part_name, *_, how = said.split()
        assert part_name in str(caught.value)
        assert how in str(caught.value)
        assert server.asked.total() == before
        pipeline.rebuild("out", drop_unreadable=True)
        assert pipeline.status("out").damage == ()
        mended = ask(server)
        assert (mended.asked, mended.by_status) == (lost + 1, {"ok": lost + 1})
    rows = pd.read_parquet("out/data")
    assert sorted(rows.id) == sorted(path.name for path in Path("photos").iterdir())


@pytest.mark.usefixtures("photos")
def test_the_commands_say_it() -> None:
    """`status` in words and in JSON with exit 0, `status --check` and `run` with exit 5, each in the same words."""
    with stub() as server:
        ask(server)
        assert command("status", "out", "--check").returncode == 0
        DAMAGES["a copied part"][0]()
        said = "part-00007.parquet (4 rows) was not written by a run here"
        plain, checked = command("status", "out"), command("status", "out", "--check")
        assert (plain.returncode, checked.returncode) == (0, 5)
        assert f"damage in data/: {said}" in plain.stdout
        assert json.loads(command("status", "out", "--json").stdout)["damage"] == [said]
        settings = [f"--set={key}={json.dumps(value)}" for key, value in ROWS.items()]
        run = command("run", "photos", "-o", "out", "--base-url", server.base_url, "--model", "gpt-4o", *settings)
        assert (run.returncode, said in run.stderr) == (5, True)
        part(7).unlink()
        assert command("status", "out", "--check").returncode == 0


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("column", ["id", "caption", "latency_s"])
def test_a_flipped_bit_is_found_by_reading_all(column: str) -> None:
    """Footers cannot tell of a bit inside a page: `status --verify` reads all of it, and ends with exit code 5."""
    with stub() as server:
        ask(server)
    assert pipeline.status("out", verify=True).damage == ()
    flip(0, column)
    assert pipeline.status("out").damage == ()
    (line,) = pipeline.status("out", verify=True).damage
    assert "part-00000.parquet" in line
    assert command("status", "out", "--verify").returncode == 5


@pytest.mark.usefixtures("photos")
def test_one_part_in_the_place_of_another() -> None:
    """Two parts of as many rows: that one is a copy of the other is found by its keys, with `--verify`."""
    with stub() as server:
        ask(server)
    shutil.copy(part(0), part(1))
    assert pipeline.status("out", verify=True).damage == (
        "part-00001.parquet has 4 rows that the ledger does not have in this part",
    )


@pytest.mark.usefixtures("photos")
def test_no_false_alarm_while_a_run_goes_on() -> None:
    """While a run holds OUT the parts are not compared, and can still be verified."""
    found = []

    def answer(width: int) -> int:
        if width == 25:
            found.append(pipeline.status("out", verify=True))
        return 200

    with stub(answer) as server:
        ask(server)
    assert [one.damage for one in found] == [()]
