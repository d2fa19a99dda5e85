"""What a page may do: show itself, and nothing else."""

from pathlib import Path

from pipeline.pages.rendering import percent, render
from tests.browsers import Browse

HOSTILE = "<img src=x onerror=alert(1)>\"'</style></script><script>alert(2)</script>\N{RIGHT-TO-LEFT OVERRIDE}"


def test_foreign_text_does_nothing(browse: Browse, tmp_path: Path) -> None:
    """It reads as it stands, and were it not escaped, the page's policy would not run it."""
    content = '<p title="{{ text }}">{{ text }}</p>{{ text|safe }}'
    template = f'{{% extends "base.html.j2" %}}{{% block content %}}{content}{{% endblock %}}'
    (tmp_path / "plain.html.j2").write_text(template)
    ours = "document.querySelector('h1').dataset.ran = 'yes';"
    page_text = render("plain.html.j2", {"text": HOSTILE}, title=HOSTILE, script=ours, folder=tmp_path)
    (tmp_path / "page.html").write_text(page_text, encoding="utf-8")
    shown = HOSTILE[:-1] + "\N{REPLACEMENT CHARACTER}"
    with browse(tmp_path / "page.html") as page:
        assert page.title() == shown
        assert page.locator("p").inner_text() == shown
        assert page.locator("p").get_attribute("title") == shown
        assert page.locator("h1").get_attribute("data-ran") == "yes"
        assert page.locator("main img").count() == 1  # the one that was let through, and did nothing


def test_shares() -> None:
    shares = (0, 0.0004, 0.1234, 0.5, 0.9996, 1)
    assert [percent(share) for share in shares] == ["0%", "<0.1%", "12.3%", "50%", ">99.9%", "100%"]
