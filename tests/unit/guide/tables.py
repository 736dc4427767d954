"""Tables of the guide, read as rows of cells."""

from collections.abc import Iterator
from pathlib import Path

from servekit.sizes import sized

GUIDE = Path(__file__).parents[3] / "servekit" / "guide"


def rows(page: str, first_head: str) -> Iterator[dict[str, str]]:
    """Rows of every table whose first column has this head, as head to cell."""
    heads: list[str] = []
    for line in (GUIDE / page).read_text().splitlines():
        if not line.startswith("|"):
            heads = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not heads:
            heads = cells
        elif heads[0] == first_head and not set(line) <= set("|-"):
            yield dict(zip(heads, cells, strict=True))


def shown(key: str, default: int | None, automatic: str) -> str:
    """A default as the guide writes it."""
    if default is None:
        return automatic
    return sized(default) if "bytes" in key and default >= 2**10 and default % 2**10 == 0 else f"{default:,}"
