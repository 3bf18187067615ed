"""An HTTP answer before it is put on the wire, and the usual ones: a rendered document, an HTML page."""

from dataclasses import dataclass
from http import HTTPStatus

from keyway.sandbox.document import JSON_FORMATS, Element, escape, render_json, render_xml

XML_TYPE = "text/xml; charset=UTF-8"
HTML_TYPE = "text/html; charset=UTF-8"
JSON_TYPE = "application/json; charset=UTF-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers and body. `huge_mebibytes` > 0 stands for a body that is streamed instead of held."""

    status: int = 200
    content_type: str = XML_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    huge_mebibytes: int = 0


def rendered(document: Element, out: str) -> Answer:
    """Return the document in the format asked for; anything unknown is XML (docs/protocols/isplicense.md 2)."""
    if out in JSON_FORMATS:
        return Answer(content_type=JSON_TYPE, body=render_json(document))
    return Answer(body=render_xml(document))


def html_page(status: int, *, headers: tuple[tuple[str, str], ...] = (), text: str = "") -> Answer:
    """Return the page of a web server in front of the panel."""
    title = f"{status} {_phrase(status)}"
    body = f"<html>\n<head><title>{title}</title></head>\n<body><h1>{title}</h1>{escape(text)}</body>\n</html>\n"
    return Answer(status=status, content_type=HTML_TYPE, headers=headers, body=body.encode())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
