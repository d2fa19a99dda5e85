"""The second night: what is asked again, who shares an answer, and what a run is, against the emulator."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import pipeline
from pipeline import InputError, RerunPolicy, ResourceError
from pipeline.display.last_screen import describe
from tests import builders
from tests.builders import ask
from tests.containers import table_bytes, tar_of
from tests.emulators import emulator
from tests.support import MakeImage, emulator_get


def rows() -> pd.DataFrame:
    return pd.read_parquet("out/data").set_index("id").sort_index()


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(4):
        make_image(f"photos/{number}.jpg", seed=number)
    return Path("photos").resolve()


@pytest.mark.parametrize("concurrency", [1, 7, 64])
def test_the_same_pixels_are_paid_once(photos: Path, endpoint: str, concurrency: int) -> None:
    """100 records; 40 show the same pixels: 61 requests; the other 39 name whose answer they share."""
    for number in range(36):
        shutil.copy(photos / "0.jpg", photos / f"copy{number:02}.jpg")
    for number in range(60):
        copy = photos / f"other{number:02}.jpg"
        copy.write_bytes((photos / "1.jpg").read_bytes()) if number < 3 else None
    summary = ask(photos, endpoint, concurrency=concurrency)
    assert (summary.asked, summary.requests, summary.followers) == (43, 4, 39)
    assert emulator_get(endpoint, "stats")["requests"] == 4
    followers = rows()[lambda frame: frame.duplicate_of.notna()]
    assert len(followers) == 39
    assert set(followers.prompt_tokens) == {0}
    assert set(followers.cost_usd) == {0}
    whole = rows()
    for name, row in followers.iterrows():
        leader = whole.loc[str(row.duplicate_of)]
        assert (row.caption, row.request_sha256, row.status) == (leader.caption, leader.request_sha256, "ok"), name
        assert leader.duplicate_of is None or pd.isna(leader.duplicate_of)


def test_sharing_spans_nights_and_can_be_refused(photos: Path, endpoint: str) -> None:
    """A new name for known pixels costs nothing tomorrow either; with dedup off every image is asked."""
    ask(photos, endpoint)
    shutil.copy(photos / "2.jpg", photos / "tomorrow.jpg")
    assert (ask(photos, endpoint).requests, rows().duplicate_of["tomorrow.jpg"]) == (0, "2.jpg")
    assert ask(photos, endpoint, out="out2", dedup=False).requests == 5


def test_transient_failures_are_asked_again_the_others_on_request(photos: Path, endpoint: str) -> None:
    """A second run asks what a server error left open; a broken image waits for --retry-failed, by kind or not."""
    (photos / "broken.jpg").write_bytes((photos / "0.jpg").read_bytes()[:900])
    with emulator(["--fault", "500=1"]) as bad:
        summary = ask(photos, bad, overrides={"request.max_failures": 1, "limits.max_error_rate": 1.0})
        assert summary.by_error == {"server_error": 4, "image_truncated": 1}
    assert ask(photos, endpoint).by_status == {"ok": 4}
    shutil.copy(photos / "3.jpg", photos / "broken.jpg")
    assert ask(photos, endpoint).asked == 0
    assert ask(photos, endpoint, retry_kind="timeout").asked == 0
    assert ask(photos, endpoint, retry_kind="image_truncated").by_status == {"ok": 1}
    assert len(rows()) == 5
    assert ask(photos, endpoint, retry_failed=True).asked == 0


def test_refresh_asks_all_again_once(photos: Path, endpoint: str) -> None:
    """--refresh: each record once more, one row a key; the same line after it begins a new refresh."""
    ask(photos, endpoint)
    before = rows()
    assert ask(photos, endpoint, refresh=True).requests == 4
    assert len(rows()) == 4
    assert set(rows().run_id) != set(before.run_id)


def test_changed_files_are_asked_again(photos: Path, make_image: MakeImage, endpoint: str) -> None:
    """--refresh-changed: the file with new pixels, not the others."""
    ask(photos, endpoint)
    make_image("photos/1.jpg", 400, 300, seed=99)
    os.utime(photos / "1.jpg", ns=(1, 1))
    assert ask(photos, endpoint).requests == 0
    assert ask(photos, endpoint, refresh_changed=True).requests == 1
    assert rows().width.to_dict() == {"0.jpg": 320, "1.jpg": 400, "2.jpg": 320, "3.jpg": 320}
    assert ask(photos, endpoint, refresh_changed=True).requests == 0


def test_another_configuration(photos: Path, make_image: MakeImage, endpoint: str) -> None:
    """Refused with the difference; `keep` asks only what is new; `refresh` asks all, and each only once."""
    ask(photos, endpoint, prompt="What is this?")
    with pytest.raises(InputError, match=r"(?s)prompt: .*this.* -> .*that.*`on_config_change=keep`.*the 4 rows"):
        ask(photos, endpoint, prompt="What is that?")
    make_image("photos/new.jpg", seed=50)
    assert ask(photos, endpoint, on_config_change="keep", prompt="What is that?").requests == 1
    assert len(set(rows().config_hash)) == 2
    assert ask(photos, endpoint, on_config_change="refresh", prompt="What is that?").requests == 4
    assert len(set(rows().config_hash)) == 1
    assert ask(photos, endpoint, on_config_change="refresh", prompt="What is that?").requests == 0


def test_the_dataset_is_the_union_of_all_nights(photos: Path, make_image: MakeImage, endpoint: str) -> None:
    """Tonight's folder holds only new images: the earlier ones stay rows, and every night leaves its summary."""
    ask(photos, endpoint)
    make_image("tonight/5.jpg", seed=5)
    ask(Path("tonight"), endpoint)
    assert sorted(rows().index) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "5.jpg"]
    runs = [json.loads(file.read_text()) for file in Path("out/runs").iterdir()]
    assert sorted(run["asked"] for run in runs) == [1, 4]
    assert rows().run_id.nunique() == 2


def test_duplicate_ids(photos: Path, endpoint: str) -> None:
    """Two rows of one id: both lines are named; with `first`, the first row counts and the other is left out."""
    manifest = photos / "list.csv"
    manifest.write_text("id,image\na,0.jpg\nb,1.jpg\na,2.jpg\n")
    with pytest.raises(InputError, match="lines 2 and 4"):
        ask(manifest, endpoint)
    assert ask(manifest, endpoint, on_duplicate_id="first").requests == 2
    assert rows().image["a"].endswith("0.jpg")


def test_an_unknown_kind_is_named() -> None:
    """The error lists the kinds that there are."""
    with pytest.raises(InputError, match="no such kind; known: image_missing"):
        RerunPolicy.parse(retry_kind="timeouts")


def test_what_is_done_with_is_not_looked_up_again(photos: Path, endpoint: str) -> None:
    """A manifest that only grew is passed over up to where it was done; one that was changed is looked at whole."""
    manifest = photos / "list.csv"
    manifest.write_text("image\n0.jpg\n1.jpg\n2.jpg\n")
    ask(manifest, endpoint)
    with manifest.open("a") as file:
        file.write("3.jpg\n")
    grown = ask(manifest, endpoint)
    assert (grown.skipped, grown.requests) == (3, 1)
    manifest.write_text("image\n0.jpg\nagain/1.jpg\n1.jpg\n2.jpg\n3.jpg\n")
    changed = ask(manifest, endpoint)
    assert (changed.skipped, changed.by_error) == (4, {"image_missing": 1})
    assert len(rows()) == 5


def test_a_transient_failure_is_below_the_low_water_mark_never(photos: Path, endpoint: str) -> None:
    """Records that failed for a transient reason are asked by the next run, wherever they stand in the manifest."""
    manifest = photos / "list.csv"
    manifest.write_text("image\n0.jpg\n1.jpg\n2.jpg\n3.jpg\n")
    with emulator(["--fault", "500=0.5", "--seed", "3"]) as bad:
        first = ask(manifest, bad, overrides={"request.max_failures": 1}, concurrency=1)
    failed = first.by_status.get("failed", 0)
    assert 0 < failed < 4
    assert ask(manifest, endpoint).requests == failed
    assert ask(manifest, endpoint).requests == 0


def test_a_week_of_nights(make_image: MakeImage, endpoint: str) -> None:
    """Seven nights of new, changed, removed and failing images: the dataset is all that was ever seen, paid once."""
    expected: dict[str, int] = {}
    requests = 0
    for night in range(7):
        for number in range(3):
            make_image(f"tonight/{night}-{number}.jpg", 100 + night, 90, seed=10 * night + number)
            expected[f"{night}-{number}.jpg"] = 100 + night
        if night > 1:
            (Path("tonight") / f"{night - 2}-0.jpg").unlink()
            make_image(f"tonight/{night - 1}-1.jpg", 300, 200 + night, seed=night)
            expected[f"{night - 1}-1.jpg"] = 300
        broken = Path("tonight/broken.jpg")
        broken.write_bytes(b"no image" * (night + 1))
        expected["broken.jpg"] = -1
        summary = ask(Path("tonight"), endpoint, refresh_changed=True, max_failed=1)
        requests += summary.requests
        assert (summary.exit_code, summary.by_status["failed"]) == (0, 1)
    widths = rows().width.fillna(-1).astype(int).to_dict()
    assert widths == expected
    assert requests == emulator_get(endpoint, "stats")["billed"] == 7 * 3 + 5
    assert len(list(Path("out/runs").iterdir())) == 7


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_changed_file_still_lends_its_old_answer(
    photos: Path, make_image: MakeImage, endpoint: str, concurrency: int
) -> None:
    """A file moves to a new name and others take its place: one night, nothing paid twice, no row left out."""
    ask(photos, endpoint, concurrency=concurrency)
    for number, old in enumerate("0123"):
        shutil.copy(photos / f"{old}.jpg", photos / f"{'AZ'[number % 2]}{old}.jpg")
        make_image(f"photos/{old}.jpg", 500 + number, 300, seed=50 + number)
        os.utime(photos / f"{old}.jpg", ns=(7, 7))
    before = rows().caption.to_dict()
    summary = ask(photos, endpoint, refresh_changed=True, concurrency=concurrency)
    assert (summary.exit_code, summary.asked) == (0, 8)
    after = rows()
    assert after.width.to_dict() == {
        **{f"{old}.jpg": 500 + number for number, old in enumerate("0123")},
        **{f"{'AZ'[number % 2]}{old}.jpg": 320 for number, old in enumerate("0123")},
    }
    assert {str(name)[1:]: text for name, text in after.caption.items() if str(name)[0] in "AZ"} == before
    assert ask(photos, endpoint, refresh_changed=True, concurrency=concurrency).asked == 0


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_leader_that_follows_another_one_lends_its_old_answer(
    photos: Path, make_image: MakeImage, endpoint: str, concurrency: int
) -> None:
    """A file is copied, and then has the pixels of a new one: the copy keeps the old answer, and no row is left out."""
    parts_of_four = {"output.rows_per_part": 4}
    ask(photos, endpoint, overrides=parts_of_four)
    before = rows().caption["3.jpg"]
    shutil.copy(photos / "3.jpg", photos / "0-copy.jpg")
    new = make_image("photos/1-new.jpg", 500, 300, seed=50)
    shutil.copy(new, photos / "3.jpg")
    os.utime(photos / "3.jpg", ns=(7, 7))
    summary = ask(photos, endpoint, refresh_changed=True, concurrency=concurrency, overrides=parts_of_four)
    assert (summary.exit_code, summary.asked, summary.requests, summary.followers) == (0, 3, 1, 2)
    after = rows()
    assert (after.caption["0-copy.jpg"], len(after)) == (before, 6)
    assert after.width[["0-copy.jpg", "1-new.jpg", "3.jpg"]].tolist() == [320, 500, 500]


def test_a_second_run_names_what_failed_before(photos: Path, endpoint: str) -> None:
    """Nothing to ask and exit code 0 do not hide rows that failed: their number is shown, and how to ask them again."""
    (photos / "broken.jpg").write_bytes(b"no image")
    assert ask(photos, endpoint).bad_before == 0
    again = ask(photos, endpoint)
    assert (again.asked, again.exit_code, again.bad_before) == (0, 0, 1)
    last = describe(again).splitlines()[-1]
    assert last == (
        "still in out from earlier runs: 1 failed (image_unsupported 1); "
        "`retry_failed=True` asks rows without an answer again"
    )
    assert ask(photos, endpoint, retry_failed=True).bad_before == 0


def test_a_refresh_pays_equal_pixels_once(photos: Path, endpoint: str) -> None:
    """Eight new names for pixels that an old row has too: the answer of this run is found beside the old one."""
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (photos / name).unlink()
    ask(photos, endpoint)
    for number in range(8):
        shutil.copy(photos / "0.jpg", photos / f"copy{number}.jpg")
    again = ask(photos, endpoint, refresh=True, concurrency=1)
    assert (again.asked, again.requests, again.followers) == (9, 1, 8)


@pytest.mark.usefixtures("shared_emulator")
def test_a_rehearsal_and_a_real_run_share_no_out(make_image: MakeImage, endpoint: str) -> None:
    """Answers of the emulator are never taken for those of a model, nor the other way round."""
    make_image("photos/a.png", 30, 20)
    photos = Path("photos").resolve()
    pipeline.run(photos, out="out", model="gpt-4o", quiet=True, emulator=True)
    with pytest.raises(InputError, match=r"holds answers of the emulator .* needs an OUT of its own"):
        ask(photos, endpoint)
    ask(photos, endpoint, out="real")
    for out in ("out", "real"):  # the rows say it, too
        Path(out, "ledger.sqlite").write_bytes(b"")
        with pytest.raises(ResourceError, match=r"is empty\. The answers in data/ are whole"):
            pipeline.status(out)
        pipeline.rebuild(out)
    assert (pipeline.status("out").is_rehearsal, pipeline.status("real").is_rehearsal) == (True, False)
    with pytest.raises(InputError, match=r"holds answers of the emulator"):
        ask(photos, endpoint)
    with pytest.raises(InputError, match=r"holds answers of a model; a rehearsal .* needs an OUT of its own"):
        pipeline.run(photos, out="real", model="gpt-4o", quiet=True, emulator=True)


@pytest.mark.parametrize("dedup", [True, False])
def test_files_that_are_only_newer(photos: Path, make_image: MakeImage, endpoint: str, *, dedup: bool) -> None:
    """--refresh-changed sends nothing for the same bytes, keeps the row, and does not look at the file again; without
    deduplication too, where other files with equal requests are asked.
    """
    ask = partial(builders.ask, overrides={"request.dedup": dedup})
    ask(photos, endpoint)
    before = rows()
    for photo in photos.iterdir():
        os.utime(photo, ns=(1, 1))
    make_image("photos/2.jpg", 400, 300, seed=99)
    summary = ask(photos, endpoint, refresh_changed=True)
    assert (summary.requests, summary.asked, summary.skipped, summary.followers) == (1, 1, 3, 0)
    assert rows().drop("2.jpg").equals(before.drop("2.jpg"))
    assert rows().width["2.jpg"] == 400
    (photos / "1.jpg").write_bytes((photos / "0.jpg").read_bytes() + b"behind the end")  # other bytes, one request
    summary = ask(photos, endpoint, refresh_changed=True)
    assert (summary.requests, summary.followers) == ((0, 1) if dedup else (1, 0))
    assert rows().sha256["1.jpg"] != before.sha256["1.jpg"]
    assert ask(photos, endpoint, refresh_changed=True).skipped == 4


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_shards_that_are_written_again(photos: Path, endpoint: str, kind: str) -> None:
    """--refresh-changed asks the records with other images, and not all of the file."""
    images = [path.read_bytes() for path in sorted(photos.iterdir())]
    source = Path(f"data.{kind}")

    def write() -> None:
        names = [f"{at}.jpg" for at in range(len(images))]
        if kind == "tar":
            source.write_bytes(tar_of(list(zip(names, images, strict=True))))
        else:
            table = pa.table({"id": names, "image": [{"bytes": image, "path": None} for image in images]})
            source.write_bytes(table_bytes(kind, table))

    write()
    assert ask(source, endpoint).requests == 4
    images[1] = images[1] + b"behind the end"
    images.append(images[0] + b"as well")
    write()
    os.utime(source, ns=(1, 1))
    summary = ask(source, endpoint, refresh_changed=True)
    assert (summary.requests, summary.skipped) == (1, 3)
    assert ask(source, endpoint, refresh_changed=True).skipped == 5
