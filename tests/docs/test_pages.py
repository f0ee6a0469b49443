"""The documentation says what the code does: its code blocks are files that run, its tables are made from the code."""

from __future__ import annotations

import re

import pytest
from services.corpus import NAMES  # `tests` is on the path: each folder with an `__init__` is a package below it

from . import generators, pages, settings_notes

BY_NAME = {page.name: page for page in sorted((*pages.PAGES, *(pages.ROOT / "docs").glob("*.md")))}
CHECKED = [page.name for page in pages.PAGES]


@pytest.mark.parametrize("name", CHECKED)
def test_a_page_is_what_the_code_makes_of_it(name):
    text = BY_NAME[name].read_text("utf-8")
    assert pages.comparable(pages.filled(text)) == pages.comparable(text), "run: python -m tests.docs.pages"


@pytest.mark.parametrize("name", CHECKED)
def test_every_python_block_comes_from_a_file_that_runs(name):
    assert pages.unmarked(BY_NAME[name].read_text("utf-8")) == []


@pytest.mark.parametrize("name", BY_NAME)
def test_links_lead_somewhere(name):
    page = BY_NAME[name]
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{name} links to {link}"


def test_a_stale_block_is_noticed():
    text = BY_NAME["testing.md"].read_text("utf-8")
    assert pages.filled(text.replace("`ack-lost`", "`ack-mislaid`", 1)) != text.replace(
        "`ack-lost`", "`ack-mislaid`", 1
    )
    assert pages.unmarked("words\n\n```python\nprint(1)\n```\n") == ["print(1)"]


def test_what_is_marked_must_exist():
    with pytest.raises(ValueError, match="nothing makes 'faultz'"):
        generators.make("faultz")
    with pytest.raises(ValueError, match="no part"):
        pages.included("tests/docs/examples/test_example_processes.py", "nobody")


def test_every_setting_has_a_note(monkeypatch):
    monkeypatch.delitem(settings_notes.QUEUE, "heartbeat")
    with pytest.raises(ValueError, match="heartbeat"):
        generators.queue_settings()


def test_the_guide_and_the_measurements_name_every_mistake_of_the_corpus():
    assert [name for name in NAMES if f"{name}.py" not in BY_NAME["testing.md"].read_text("utf-8")] == []
    assert [name for name in NAMES if f"| {name} |" not in BY_NAME["measurements.md"].read_text("utf-8")] == []
