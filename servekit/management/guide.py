"""Pages of the guide, rendered from the package's Markdown."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

GUIDE = Path(__file__).parents[1] / "guide"


class Page(NamedTuple):
    """One page: its place below `/guide/`, its title, and its body as HTML."""

    name: str
    title: str
    html: str


@cache
def titles() -> dict[str, str]:
    """Every page's name and title; only these names are ever looked up."""
    return {path.stem: _title(path.read_text(encoding="utf-8"), path.stem) for path in sorted(GUIDE.glob("*.md"))}


@cache
def page(name: str) -> Page | None:
    """Renders one page; raw HTML in it stays text."""
    if name not in titles():
        return None
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    text = (GUIDE / f"{name}.md").read_text(encoding="utf-8")
    return Page(name, titles()[name], renderer.render(text))


def _title(text: str, otherwise: str) -> str:
    return next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), otherwise)
