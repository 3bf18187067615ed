"""ARCHITECTURE.md tells the truth where a machine can check it: the diagram, and every file that it names."""

import re
from pathlib import Path

from shared.domain.license import TRANSITIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FIRST_LINES = (
    "stateDiagram-v2",
    "    [*] --> active: PURCHASE",
    "    [*] --> terminated: TERMINATE of a number never issued",
)
NAMED = re.compile(r"`((?:gateway|workers|shared|keyway|deploy|docs|tests|bench)/[\w./-]+\.\w+)`")


def diagram() -> str:
    moves = [
        f"    {before} --> {after}"
        for before, afterwards in TRANSITIONS.items()
        for after in sorted(afterwards)
        if after is not before
    ]
    return "\n".join((*FIRST_LINES, *moves))


def test_diagram_is_the_table_of_transitions() -> None:
    (drawn,) = re.findall(r"```mermaid\n(.*?)\n```", PAGE, flags=re.DOTALL)

    assert drawn == diagram()


def test_every_file_that_the_page_names_is_there() -> None:
    named = NAMED.findall(PAGE)

    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_relative_links_of_the_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []
