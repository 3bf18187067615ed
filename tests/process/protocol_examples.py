"""The worked examples of docs/protocols/isv-endpoint.md 13, read from the page itself, so that it is never wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocols" / "isv-endpoint.md"
MEDIA_TYPES = {
    "octets": "application/octet-stream",
    "text": "text/plain; charset=UTF-8",
    "JSON": "application/json; charset=UTF-8",
}
ABSENT = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One request and its answer as printed."""

    name: str
    form: bytes
    status: int
    media_type: str | None
    headers: Mapping[str, str]
    body: str | None
    """None for no body; a filler in JSON where a license body is meant."""


def examples() -> dict[str, Example]:
    """Return the examples of the page by their numbers."""
    text = PAGE.read_text(encoding="utf-8")
    requests = {cells[0]: cells[2] for cells in _rows(text, "13.1 Requests", columns=3)}
    answers = {cells[0]: cells[1:] for cells in _rows(text, "13.2 Answers", columns=7)}
    return {name: _example(name, _bare(requests[name]), answers[name]) for name in requests}


def _rows(text: str, heading: str, *, columns: int) -> list[list[str]]:
    section = text.split(f"</a>{heading}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|", columns - 1)]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return [cells for cells in rows if cells[0].isdigit()]


def _example(name: str, form: str, answer: list[str]) -> Example:
    _, status, media_type, _, further, body = answer
    headers = {}
    if further != ABSENT:
        header, _, value = _bare(further).partition(": ")
        headers[header.lower()] = value
    return Example(
        name=name,
        form=form.encode("ascii"),
        status=int(status.split()[0]),
        media_type=MEDIA_TYPES.get(media_type),
        headers=headers,
        body=None if body == "none" else _bare(body),
    )


def _bare(cell: str) -> str:
    return cell.removeprefix("`").removesuffix("`")
