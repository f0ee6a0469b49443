"""Fills the marked parts of the documentation: ``python -m tests.docs.pages``, from the root of the repository.

Two marks, both HTML comments, which a rendered page does not show:

    <!-- include FILE [PART] -->    the fenced block that follows is FILE, or its lines between ``# [PART]`` and ``# [/PART]``
    <!-- generated NAME --> ... <!-- /generated -->    what stands between is made by NAME of ``generators``

``test_pages.py`` fails where a page is not what this would make of it. The guide's failing examples are run for it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent

from . import generators

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("testing", "settings", "design", "measurements")),
)
_INCLUDE = re.compile(
    r"(<!-- include (?P<file>\S+)(?: (?P<part>[\w-]+))? -->\n```\w*\n).*?(^```\n)", re.DOTALL | re.MULTILINE
)
_GENERATED = re.compile(r"(<!-- generated (?P<name>[\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)
_REPORT = re.compile(r"(<!-- generated report -->\n)(.*?)(<!-- /generated -->)", re.DOTALL)
_OUTLINE = re.compile(
    r"^(?:```|Violated|Found in run|Minimal plan \(1 fault\)|    @simulate\(plan=\[Fault\('kill'|Timeline|Replay|Artifacts)",
    re.MULTILINE,
)
_UNMARKED = re.compile(r"(?<!-->\n)^```python\n(.*?)\n", re.DOTALL | re.MULTILINE)


def included(file: str, part: str | None) -> str:
    """The text of ``file`` below the root, or the lines of one part of it."""
    text = (ROOT / file).read_text("utf-8").strip("\n")
    if part is None:
        return text
    name = re.escape(part)
    found = re.search(rf"^ *# \[{name}\]\n(.*?)\n *# \[/{name}\]$", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"{file} has no part between '# [{part}]' and '# [/{part}]'")
    return dedent(found[1]).strip("\n")


def filled(text: str) -> str:
    """``text`` with every marked part as it should be."""
    text = _INCLUDE.sub(lambda m: m[1] + included(m["file"], m["part"]) + "\n" + m[4], text)
    return _GENERATED.sub(lambda m: m[1] + generators.make(m["name"]).strip("\n") + "\n" + m[3], text)


def unmarked(text: str) -> list[str]:
    """The first lines of the Python blocks that come from nowhere."""
    return _UNMARKED.findall(text)


def comparable(text: str) -> str:
    """``text`` with the outline of a report in place of the report: any change of the kit may lead a search elsewhere."""
    return _REPORT.sub(lambda m: m[1] + "\n".join(_OUTLINE.findall(m[2])) + "\n" + m[3], text)


def main() -> None:
    for page in PAGES:
        before = page.read_text("utf-8")
        after = filled(before)
        page.write_text(after, "utf-8")
        sys.stdout.write(f"{page.relative_to(ROOT)}: {'as it was' if after == before else 'filled'}\n")


if __name__ == "__main__":
    main()
