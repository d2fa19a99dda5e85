"""PDFs as records, whole and page by page: rows, resumes, duplicates, budgets, and what cannot be sent."""

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import BudgetReachedError, InputError
from pipeline.catalogue.prices import Price
from pipeline.emulator.documents import PAGE_TOKENS
from pipeline.endpoints import pricing
from pipeline.locations import Document
from pipeline.sources import documents
from tests.builders import ask
from tests.pdfs import encrypted, pdf
from tests.stub import Reply, answer, stub
from tests.support import Command, MakeImage

PRICE = Price(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(10))
PIXELS = ["width", "height", "sent_width", "sent_height"]


@pytest.fixture
def folder(make_image: MakeImage) -> Path:
    make_image("docs/a.jpg", 640, 480)
    path = Path("docs").resolve()
    (path / "six.PDF").write_bytes(pdf(6))
    return path


def rows_of(out: str = "out") -> pd.DataFrame:
    return pd.read_parquet(f"{out}/data").set_index("id").sort_index()


def test_six_pages_as_a_whole(folder: Path, endpoint: str) -> None:
    """One row without pixels and without a prediction, billed by page.

    Equal bytes under another name are asked once; a second run asks nothing, and a changed file is asked again.
    """
    (folder / "again.pdf").write_bytes(pdf(6))
    summary = ask(folder, endpoint)
    rows = rows_of().loc[["again.pdf", "six.PDF"]]
    assert summary.exit_code == 0
    assert summary.requests == 2
    assert set(rows.status) == {"ok"}
    assert rows[[*PIXELS, "predicted_prompt_tokens", "token_rule"]].isna().all(axis=None)
    assert set(rows.sent_bytes) == {len(pdf(6))}
    assert rows.sha256.nunique() == rows.caption.nunique() == 1
    assert rows.duplicate_of.notna().sum() == 1
    assert rows.prompt_tokens.sum() // PAGE_TOKENS == 6
    assert "A PDF of 6 pages" in rows.caption.iloc[0]
    assert ask(folder, endpoint).requests == 0
    (folder / "six.PDF").write_bytes(pdf(7))
    assert ask(folder, endpoint, refresh_changed=True).requests == 1
    assert "A PDF of 7 pages" in rows_of().loc["six.PDF"].caption


def test_six_pages_one_by_one(folder: Path, endpoint: str) -> None:
    """A record a page, predicted and billed as an image of the size that the model looks at.

    An estimate says the same; a page that is there twice is asked once; a changed file is asked again, with what is
    new in it; pages that are gone keep their rows.
    """
    summary = ask(folder, endpoint, pdf="pages")
    rows = rows_of()
    assert list(rows.index) == ["a.jpg", *(f"six.PDF#page={page}" for page in range(1, 7))]
    assert list(rows.image[1:]) == [f"{folder}/six.PDF#page={page}" for page in range(1, 7)]
    assert set(rows.status) == {"ok"}
    assert (rows.predicted_prompt_tokens == rows.prompt_tokens).all()
    assert rows[PIXELS][1:].drop_duplicates().to_numpy().tolist() == [[1700, 2200, 768, 993]]
    assert len(set(rows.sha256[1:])) == 1
    assert rows.request_sha256.nunique() == 7
    assert summary.source_bytes == sum(path.stat().st_size for path in folder.iterdir())
    found = pipeline.estimate(folder, model="gpt-4o", base_url=endpoint, pdf="pages")
    assert found.models[0].input_tokens.expected == rows.prompt_tokens.sum()
    assert ask(folder, endpoint, pdf="pages", refresh_changed=True).requests == 0
    (folder / "six.PDF").write_bytes(pdf(7, text="new"))
    assert ask(folder, endpoint, pdf="pages", refresh_changed=True).requests == 7
    assert len(rows_of()) == 8
    with pytest.raises(InputError, match=r"source\.pdf"):
        ask(folder, endpoint)


def test_the_request_of_a_document(folder: Path) -> None:
    """The file part stands where the image part does; its name has neither path nor secrets."""
    (folder / "six.PDF").rename(folder / "tmp")
    manifest = folder / "list.jsonl"
    url = f"data:application/pdf;base64,{base64.b64encode(pdf(2)).decode()}"
    rows = [{"id": "b", "image": ["a.jpg", url]}, {"id": "c", "image": "tmp"}]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    with stub() as server:
        assert ask(manifest, server.base_url).exit_code == 0
        bodies = [json.loads(body)["messages"][-1]["content"] for body in server.bodies]
    several, single = sorted(bodies, key=len, reverse=True)
    assert [part["type"] for part in several] == ["text", "image_url", "file"]
    assert [part["type"] for part in single] == ["text", "file"]
    for part, name, data in ((several[2], "document.pdf", pdf(2)), (single[1], "tmp.pdf", pdf(6))):
        sent = f"data:application/pdf;base64,{base64.b64encode(data).decode()}"
        assert part["file"] == {"filename": name, "file_data": sent}


def test_addresses_and_bytes(folder: Path, endpoint: str) -> None:
    """Whole: behind an address, whose signature is not sent. Bytes of the program: whole, and page by page."""
    with stub(picture=pdf(3)) as host:
        Path("list.txt").write_text(f"{host.url}/a/scan.pdf?X-Amz-Signature=secret\n")
        ask("list.txt", host.base_url, out="one", allow_private_hosts=True)
        (body,) = host.bodies
        assert b'"filename":"scan.pdf"' in body
        assert b"secret" not in body
        with pytest.raises(InputError, match="behind an address"):
            ask("list.txt", host.base_url, out="two", pdf="pages")
    for mode, ids in (("whole", ["0", "x"]), ("pages", ["0#page=1", "0#page=2", "x#page=1"])):
        items = [{"image": pdf(2), "id": "0"}, {"image": {"bytes": pdf(1), "path": None}, "id": "x"}]
        assert pipeline.run(items, out=mode, base_url=endpoint, model="gpt-4o", pdf=mode, quiet=True).exit_code == 0
        assert list(rows_of(mode).index) == ids


@pytest.mark.parametrize("mode", ["whole", "pages"])
def test_what_cannot_be_sent(mode: str, folder: Path, endpoint: str) -> None:
    """Each is a failed row of its kind, and nothing of it is sent; what is mended later is asked then."""
    cases = {
        "broken.pdf": (b"%PDF-1.7\n1 0 obj\n%%EOF", {"image_unreadable"}),
        "cut.pdf": (pdf(2)[:200], {"image_truncated", "image_unreadable"}),
        "empty.pdf": (b"", {"image_empty"}),
        "locked.pdf": (encrypted(), {"image_unreadable"}),
        "text.pdf": (b"not a PDF", {"image_unsupported", "image_unreadable"}),
    }
    for name, (data, _) in cases.items():
        (folder / name).write_bytes(data)
    (folder / "gone.pdf").symlink_to("nowhere")
    assert ask(folder, endpoint, pdf=mode).exit_code == 1
    rows = rows_of()
    for name, (_, kinds) in {**cases, "gone.pdf": (b"", {"image_missing"})}.items():
        row = rows.loc[name if mode == "whole" else f"{name}#page=1"]
        assert (row.status, row.attempts) == ("failed", 0)
        assert row.error_kind in kinds, name
    assert rows.error_message.str.contains("encrypted").sum() == 1
    (folder / "locked.pdf").write_bytes(pdf(2))
    assert ask(folder, endpoint, pdf=mode, retry_kind="image_unreadable").by_status["ok"] >= 1


@pytest.mark.parametrize("budget", [{"max_cost": 5}, {"max_cost_total": 5}, {"overrides": {"budget.max_tokens": 99}}])
def test_a_budget_needs_pages(budget: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 before anything is sent, with both ways out; pages, and a bound of requests, are such ways."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    with stub() as server:
        with pytest.raises(InputError, match=r"whole.*`source\.pdf=pages`.*`budget\.max_requests=N`"):
            ask(folder, server.base_url, **budget)
        assert not Path("out").exists()
        assert not server.bodies
        with pytest.raises(BudgetReachedError, match="max_requests"):
            ask(folder, server.base_url, max_requests=1)
        # Under another name it is found only when it is read: then it is a row.
        (folder / "six.PDF").rename(folder / "tmp")
        Path("list.txt").write_text("docs/tmp\n")
        ask("list.txt", server.base_url, out="named", **budget)
        assert "budget." in rows_of("named").error_message.iloc[0]
        assert len(server.bodies) == 1


def test_consent_for_what_cannot_be_predicted(folder: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """Without a budget `budget.confirm_usd` is one; a document reserves what a prompt may hold at most."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    with stub() as server:
        words = ["run", str(folder), "-o", "out", "--model", "gpt-4o", "--base-url", server.base_url]
        code, _, stderr = command(*words, "--set", "budget.confirm_usd=1")
        assert code == 3
        assert "cannot be predicted: it stops at $1.00" in stderr
        assert "may cost up to $2.6" in stderr
        code, _, _ = command(*words)
        assert code == 0
        assert rows_of().loc["six.PDF"].status == "ok"


def test_an_estimate_leaves_documents_out(folder: Path, endpoint: str, command: Command) -> None:
    """The images alone are predicted, and a note counts the rest; a manifest's own sizes do not count for a PDF."""
    alone = pipeline.estimate(folder / "a.jpg", model="gpt-4o", base_url=endpoint)
    found = pipeline.estimate(folder, model="gpt-4o", base_url=endpoint)
    assert (found.images, found.documents) == (1, 1)
    assert found.models[0].input_tokens == alone.models[0].input_tokens
    Path("list.csv").write_text("image,width,height\ndocs/a.jpg,640,480\ndocs/six.PDF,640,480\n")
    assert pipeline.estimate("list.csv", model="gpt-4o", base_url=endpoint).documents == 1
    code, stdout, _ = command("estimate", str(folder), "--model", "gpt-4o", "--base-url", endpoint)
    assert code == 0
    assert "1 PDF is sent whole" in stdout
    code, _, stderr = command("estimate", str(folder / "six.PDF"), "--model", "gpt-4o", "--base-url", endpoint)
    assert code == 2
    assert "--pdf pages" in stderr
    words = ["--sample", "2", "--model", "m", "--base-url", endpoint, "-o", "out"]
    code, _, stderr = command("run", str(folder / "six.PDF"), *words)
    assert code == 2
    assert "only PDFs" in stderr


def test_an_endpoint_without_documents(folder: Path) -> None:
    """Its 400 is the row of the document, in its own words; the images are answered."""
    words = "Unknown part type: file"

    def decide(width: int) -> Reply:
        return Reply(200, answer(width)) if width else Reply(400, {"error": {"message": words, "type": "bad"}})

    with stub(decide) as server:
        assert ask(folder, server.base_url).exit_code == 1
    rows = rows_of()
    assert (rows.loc["six.PDF"].error_kind, rows.loc["a.jpg"].status) == ("bad_request", "ok")
    assert words in rows.loc["six.PDF"].error_message


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages: one line before anything is sent. A whole document needs nothing."""
    for module in ("sources.documents", "images.documents"):
        monkeypatch.setattr(f"pipeline.{module}.has_pdf_extra", lambda: False)
    with stub() as server:
        with pytest.raises(InputError, match=r"six\.PDF.*is a PDF; .*pip install \"vision-batch\[pdf\]\".*source\.pdf"):
            ask(folder, server.base_url, pdf="pages")
        assert ask(folder, server.base_url).exit_code == 0
        assert len(server.bodies) == 2


def test_pages_of_rows_that_have_several(folder: Path, endpoint: str) -> None:
    """A PDF among the images of one record has no pages of its own; a list and a glob name documents as a folder."""
    Path("list.jsonl").write_text('{"id": "x", "image": ["docs/a.jpg", "docs/six.PDF"]}\n')
    with pytest.raises(InputError, match=r"line 1: a PDF among several images"):
        ask("list.jsonl", endpoint, pdf="pages")
    assert ask("list.jsonl", endpoint).exit_code == 0
    assert [one["width"] for one in rows_of().images.iloc[0]] == [640, None]
    Path("list.csv").write_text("id,image,title\nx,docs/six.PDF,A\n")
    ask("list.csv", endpoint, out="listed", pdf="pages", prompt="Page of {{ title }}?", limit=2)
    assert list(rows_of("listed").index) == ["x#page=1", "x#page=2"]
    ask("docs/*.PDF", endpoint, out="glob", pdf="pages")
    assert len(rows_of("glob")) == 6


def test_documents_are_opened_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records stream: the first pages are there before the second document is opened."""
    for number in range(5):
        (folder / f"{number}.pdf").write_bytes(pdf(100))
    opened: list[str] = []
    count = documents._pages_in

    def counted(document: Document) -> int:
        opened.append(document.name)
        return count(document)

    monkeypatch.setattr(documents, "_pages_in", counted)
    records = pipeline.sources.open_source(folder, pipeline.SourceConfig(pdf="pages")).records()
    assert [next(records).id for _ in range(2)] == ["0.pdf#page=1", "0.pdf#page=2"]
    assert len(opened) == 1
