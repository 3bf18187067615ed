"""Spoiling an answer: first the document, then the finished bytes (docs/protocols/isplicense.md 13.4)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyway.sandbox.answer import HTML_TYPE, XML_TYPE, Answer, html_page
from keyway.sandbox.call import Call, PanelError, numeric
from keyway.sandbox.document import Element, find, with_children, without
from keyway.sandbox.faults import hostile
from keyway.sandbox.faults.plan import Plan
from keyway.sandbox.rows import FaultRule
from keyway.sandbox.texts import Text

FOREIGN_HOST = "elsewhere.example"
_LOGIN_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Authorization</title></head><body>"
    b'<form method="post" action="/manager/billmgr"><input type="hidden" name="func" value="auth">'
    b'<input name="username"><input name="password" type="password"></form></body></html>\n'
)
_CYRILLIC_BANNER = Element("banner", "Новые продукты")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a spoiled answer may need to know: the request's path and host, the listener, whether gzip is welcome."""

    path: str
    host: str
    listener_url: str
    accepts_gzip: bool


def spoiled_document(document: Element, plan: Plan, call: Call) -> Element:
    """Return the document with wrong ids, or the error that hides what was done. Panel errors are left as they are."""
    for rule in plan.of("no_id", "many_ids", "bad_id", phase="after"):
        found = find(document, "id")
        if found is not None:
            document = _with_other_ids(document, found, rule)
    for rule in plan.of("error_doc", "captcha", phase="after"):
        document = error_in_place(rule, call, document)
    return document


def error_in_place(rule: FaultRule, call: Call, document: Element | None = None) -> Element:
    """Return the error document of an `error_doc` or `captcha` fault, beside the real id where it says `keep_id`."""
    if rule.mode == "captcha":
        error = PanelError("captcha_verification_failed", "", Text.CAPTCHA)
        return Element("doc", children=(error.element(lang=call.lang, func=call.func),))
    args = rule.args
    message = str(args["msg"])
    error = PanelError(str(args["type"]), str(args["object"]), Text.FAULT, value=message)
    element = error.element(lang=call.lang, func=call.func)
    found = find(document, "id") if document is not None else None
    kept = (found,) if found is not None and args["keep_id"] else ()
    return Element("doc", children=(element, *kept))


def spoiled_answer(answer: Answer, rule: FaultRule, around: Surroundings) -> Answer:
    """Return the answer as this fault leaves it; faults that spoil no bytes leave it as it is."""
    spoiler = _SPOILERS.get(rule.mode)
    return spoiler(answer, rule, around) if spoiler is not None else answer


def _with_other_ids(document: Element, found: Element, rule: FaultRule) -> Element:
    match rule.mode:
        case "no_id":
            return without(document, "id")
        case "many_ids":
            other = str(rule.args["id"] or int(found.text) + 1)
            return with_children(document, (Element("id", other),))
        case _:
            return with_children(without(document, "id"), (Element("id", str(rule.args["id"])),))


def _http_status(_answer: Answer, rule: FaultRule, _around: Surroundings) -> Answer:
    seconds = numeric(rule.args["retry_after"])
    return html_page(numeric(rule.args["status"]), headers=(("Retry-After", str(seconds)),) if seconds else ())


def _malformed(answer: Answer, rule: FaultRule, _around: Surroundings) -> Answer:
    end = b"</doc>"
    match rule.args["kind"]:
        case "unclosed":
            body = answer.body.replace(end, b"<unclosed>" + end)
        case "ampersand":
            body = answer.body.replace(end, b"<banner>licenses & more</banner>" + end)
        case "nul":
            body = answer.body.replace(end, b"<banner>\x00</banner>" + end)
        case _:
            body = answer.body.rstrip() + b"\n<doc><ok/></doc>\n"
    return replace(answer, body=body)


def _wrong_root(answer: Answer, rule: FaultRule, _around: Surroundings) -> Answer:
    root = str(rule.args["root"]).encode()
    return replace(answer, body=answer.body.replace(b"<doc", b"<" + root, 1).replace(b"</doc>", b"</" + root + b">"))


def _empty(answer: Answer, _rule: FaultRule, _around: Surroundings) -> Answer:
    return replace(answer, body=b"")


def _badly_encoded(answer: Answer, rule: FaultRule, _around: Surroundings) -> Answer:
    text = answer.body.decode()
    if rule.args["kind"] == "utf-16":
        return replace(answer, body=text.replace('encoding="UTF-8"', 'encoding="UTF-16"').encode("utf-16"))
    banner = f"<{_CYRILLIC_BANNER.tag}>{_CYRILLIC_BANNER.text}</{_CYRILLIC_BANNER.tag}>"
    spoiled = text.replace("</doc>", f"{banner}</doc>") if "</doc>" in text else text.replace("/>", f">{banner}</doc>")
    return replace(answer, body=spoiled.encode("windows-1251", "replace"))


def _xxe(_answer: Answer, rule: FaultRule, around: Surroundings) -> Answer:
    return Answer(body=hostile.external_entities(str(rule.args["file"]), around.listener_url))


def _xxe_param(_answer: Answer, _rule: FaultRule, around: Surroundings) -> Answer:
    return Answer(body=hostile.external_subset(around.listener_url))


def _laughs(_answer: Answer, _rule: FaultRule, _around: Surroundings) -> Answer:
    return Answer(body=hostile.billion_laughs())


def _quadratic(_answer: Answer, _rule: FaultRule, _around: Surroundings) -> Answer:
    return Answer(body=hostile.quadratic_blowup())


def _deep(_answer: Answer, rule: FaultRule, _around: Surroundings) -> Answer:
    return Answer(body=hostile.deep(numeric(rule.args["levels"])))


def _huge(_answer: Answer, rule: FaultRule, around: Surroundings) -> Answer:
    mebibytes = numeric(rule.args["mebibytes"])
    if rule.args["gzip"] and around.accepts_gzip:
        return Answer(headers=(("Content-Encoding", "gzip"),), body=hostile.gzip_bomb(mebibytes))
    return Answer(content_type=XML_TYPE, huge_mebibytes=mebibytes)


def _login(_answer: Answer, _rule: FaultRule, _around: Surroundings) -> Answer:
    return Answer(content_type=HTML_TYPE, body=_LOGIN_PAGE)


def _redirect(_answer: Answer, rule: FaultRule, around: Surroundings) -> Answer:
    location = {
        "login": f"{around.path}?func=logon",
        "self": around.path,
        "origin": f"https://{FOREIGN_HOST}{around.path}",
        "http": f"http://{around.host}{around.path}",
    }[str(rule.args["to"])]
    return html_page(numeric(rule.args["status"]), headers=(("Location", location),))


_SPOILERS: dict[str, Callable[[Answer, FaultRule, Surroundings], Answer]] = {
    "http_status": _http_status,
    "malformed_xml": _malformed,
    "wrong_root": _wrong_root,
    "empty_body": _empty,
    "bad_encoding": _badly_encoded,
    "xxe": _xxe,
    "xxe_param": _xxe_param,
    "billion_laughs": _laughs,
    "quadratic": _quadratic,
    "huge_body": _huge,
    "deep": _deep,
    "html_login": _login,
    "redirect": _redirect,
}
