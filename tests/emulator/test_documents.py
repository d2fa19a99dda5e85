"""PDFs in requests: seen page by page, billed by the emulator's own rule, and refused where they are none."""

import base64
from collections.abc import Iterator

import openai
import pytest

from pipeline.emulator import documents
from pipeline.emulator.documents import PAGE_TOKENS, UnreadableDocumentError, look_at_document
from tests.pdfs import encrypted, pdf


@pytest.fixture
def client(endpoint: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=endpoint, api_key="k", max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, data: bytes) -> openai.types.chat.ChatCompletion:
    url = f"data:application/pdf;base64,{base64.b64encode(data).decode()}"
    return client.chat.completions.create(
        model="gpt-4o",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": url}},
                    {"type": "text", "text": "What is it?"},
                ],
            }
        ],
    )


def test_a_document_is_counted_and_billed(client: openai.OpenAI) -> None:
    """The official client sends it; the answer names the pages, and each is billed alike."""
    answers = [ask(client, pdf(pages)) for pages in (1, 6)]
    assert [one.choices[0].message.content for one in answers] == ["A PDF of 1 page.", "A PDF of 6 pages."]
    one, six = (answer.usage.prompt_tokens for answer in answers if answer.usage is not None)
    assert six - one == 5 * PAGE_TOKENS


@pytest.mark.parametrize("data", [b"GIF89a", pdf(2)[:200], encrypted()], ids=["no PDF", "cut", "encrypted"])
def test_what_is_no_document(client: openai.OpenAI, data: bytes) -> None:
    """A 400 in OpenAI's form that names the place."""
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, data)
    assert (raised.value.code, raised.value.param) == ("invalid_value", "messages[0].content[0].file.file_data")


def test_without_a_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pypdfium2 is missing the markers of pages count."""
    monkeypatch.setattr(documents, "has_pdf_extra", lambda: False)
    assert look_at_document(pdf(6)).pages == 6
    with pytest.raises(UnreadableDocumentError, match="no PDF"):
        look_at_document(b"text")
