"""The contract of the public port on the admin port: `/openapi.json`, and `/docs`, the same as a page for people.

The document is written by hand (`openapi.yaml`; docs/openapi.yaml is a link to it). The page is made of it here, and
asks nobody else for anything.
"""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiohttp import web

FILE = Path(__file__).resolve().parents[1] / "openapi.yaml"
METHODS = ("get", "put", "post", "delete")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1e}"
    "code,pre{font:14px/1.45 ui-monospace,monospace;background:#f4f4f6;border-radius:4px;padding:.1em .3em}"
    "pre{padding:1em;overflow:auto}table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "td,th{text-align:left;border-bottom:1px solid #ddd;padding:.3rem .6rem;vertical-align:top}"
    "h3{margin-top:2rem}.m{text-transform:uppercase;font-weight:700;color:#0a5}summary{cursor:pointer}"
)

Document = Mapping[str, Any]


def load_document() -> Document:
    """Return the OpenAPI document."""
    document: Document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return document


def add_contract_pages(application: web.Application, document: Document) -> None:
    """Let `application` serve the document as JSON and as a page."""
    as_json, as_page = orjson.dumps(document), page(document).encode()

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=as_json, content_type="application/json")

    async def docs(_request: web.Request) -> web.Response:
        return web.Response(body=as_page, content_type="text/html", charset="utf-8", headers=PAGE_HEADERS)

    application.add_routes([web.get("/openapi.json", openapi), web.get("/docs", docs)])


def page(document: Document) -> str:
    """Return the document as one HTML page."""
    info = document["info"]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])}</h1><p>{escape(info['summary'])} {escape(info['description'])}</p>",
            '<p>As data: <a href="/openapi.json">/openapi.json</a></p>',
            *_operations(document),
            "<h2>Schemas</h2>",
            *_schemas(document["components"]["schemas"]),
            "</body></html>\n",
        )
    )


def _operations(document: Document) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['description'])}</h2>"
        for path, item in document["paths"].items():
            for method in METHODS:
                operation = item.get(method)
                if operation is not None and tag["name"] in operation["tags"]:
                    shared = item.get("parameters", [])
                    yield from _operation(document, f"{method} {path}", operation, shared)


def _operation(document: Document, title: str, operation: Document, shared: list[Document]) -> Iterator[str]:
    method, path = title.split(" ", 1)
    anchor = escape(operation["operationId"])
    yield f'<h3 id="{anchor}"><span class="m">{method}</span> <code>{escape(path)}</code></h3>'
    yield f"<p>{escape(operation['summary'])} {escape(operation.get('description', ''))}</p>"
    parameters = [_resolved(document, each) for each in (*shared, *operation.get("parameters", ()))]
    if parameters:
        yield "<table><tr><th>Parameter</th><th>In</th><th>Meaning</th><th>Form</th></tr>"
        for each in parameters:
            required = " (required)" if each.get("required") else ""
            yield (
                f"<tr><td><code>{escape(each['name'])}</code>{required}</td><td>{escape(each['in'])}</td>"
                f"<td>{escape(each.get('description', ''))}</td><td>{_form(each['schema'])}</td></tr>"
            )
        yield "</table>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body <code>{escape(media_type)}</code>: {_form(content['schema'])}</p>"
    yield "<table><tr><th>Status</th><th>Meaning</th><th>Body</th></tr>"
    for status, response in operation["responses"].items():
        told = _resolved(document, response)
        bodies = ", ".join(
            f"<code>{escape(media_type)}</code> {_form(content['schema'])}"
            for media_type, content in told.get("content", {}).items()
        )
        yield f"<tr><td>{escape(str(status))}</td><td>{escape(told['description'])}</td><td>{bodies}</td></tr>"
    yield "</table>"


def _schemas(schemas: Document) -> Iterator[str]:
    for name, schema in schemas.items():
        shown = escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{shown}</pre></details>'


def _resolved(document: Document, part: Document) -> Document:
    """Follow the reference that `part` may be."""
    reference = part.get("$ref")
    found = document if reference else part
    for step in str(reference).removeprefix("#/").split("/") if reference else ():
        found = found[step]
    return found


def _form(schema: Document) -> str:
    reference = schema.get("$ref")
    if reference is not None:
        name = escape(str(reference).rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    return f"<code>{escape(orjson.dumps(schema).decode())}</code>"
