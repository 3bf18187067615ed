"""Hostile and broken XML: refused, quickly, with little memory, and never half believed."""

import gzip
import time
import tracemalloc

import pytest

from workers.provider.isplicense.xml_reading import UnreadableAnswerError, parse, read_document

DTD = b'<?xml version="1.0"?>\n<!DOCTYPE doc ['
LAUGHS = b"".join(b'<!ENTITY e%d "%s">' % (n, b"&e%d;" % (n - 1) * 10) for n in range(1, 11))

HOSTILE = {
    "billion laughs": DTD + b'<!ENTITY e0 "ha">' + LAUGHS + b"]><doc>&e10;</doc>",
    "quadratic": DTD + b'<!ENTITY q "' + b"x" * 100_000 + b'">]><doc>' + b"&q;" * 10_000 + b"</doc>",
    "xxe file": DTD + b'<!ENTITY x SYSTEM "file:///etc/hostname">]><doc><id>&x;</id></doc>',
    "xxe http": DTD + b'<!ENTITY x SYSTEM "http://127.0.0.1:1/">]><doc><id>&x;</id></doc>',
    "parameter entity": DTD + b'<!ENTITY % p SYSTEM "http://127.0.0.1:1/">%p;]><doc/>',
    "external dtd": b'<!DOCTYPE doc SYSTEM "http://127.0.0.1:1/x.dtd"><doc/>',
    "dtd only": b"<!DOCTYPE doc><doc><id>1</id></doc>",
    "lower case": b"<!doctype doc><doc/>",
    "entity without doctype": b"<doc><!ENTITY x 'y'></doc>",
    "utf-16 doctype": "<!DOCTYPE doc><doc/>".encode("utf-16"),
    "html doctype with a subset": b"<!DOCTYPE html [<!ELEMENT a ANY>]><html/>",
    "html doctype with an entity": b"<!DOCTYPE html><!ENTITY a 'b'><html/>",
    "deep": b"<a>" * 100_000,
    "one deeper than allowed": b"<a>" * 65 + b"</a>" * 65,
    "attributes": b"<doc " + b" ".join(b'a%d="1"' % n for n in range(75_000)) + b"/>",
    "one attribute too many": b"<doc " + b" ".join(b'a%d="1"' % n for n in range(101)) + b"/>",
    "elements": b"<doc>" + b"<a/>" * 200_000 + b"</doc>",
    "text": b"<doc><a>" + b"x" * 65_537 + b"</a></doc>",
    "text in pieces": b"<doc>" + b"<![CDATA[" + b"x" * 40_000 + b"]]>" + b"<![CDATA[" + b"x" * 40_000 + b"]]></doc>",
    "attribute text": b'<doc a="' + b"x" * 65_537 + b'"/>',
}

BROKEN = {
    "truncated": b"<doc><id>40117</id><ok",
    "not closed": b"<doc><id>40117</id>",
    "two roots": b"<doc><id>1</id></doc><doc><id>2</id></doc>",
    "stray ampersand": b"<doc>a & b</doc>",
    "undeclared entity": b"<doc>&nbsp;</doc>",
    "json": b'{"doc":{"id":{"$":"1"}}}',
    "empty": b"",
    "spaces": b" \r\n\t",
    "nul": b"<doc>\0<id>1</id></doc>",
    "utf-7": b'<?xml version="1.0" encoding="utf-7"?><doc/>',
    "cp1251 declared": '<?xml version="1.0" encoding="windows-1251"?><doc>Ок</doc>'.encode("cp1251"),
    "cp1251 undeclared": '<?xml version="1.0" encoding="UTF-8"?><doc>Ок</doc>'.encode("cp1251"),
    "utf-16": '<?xml version="1.0" encoding="UTF-16"?><doc/>'.encode("utf-16"),
    "utf-16 without mark": "<doc/>".encode("utf-16-le"),
    "utf-32": "<doc/>".encode("utf-32"),
    "gzip": gzip.compress(b"<doc/>"),
    "html page": b"<!DOCTYPE html>\n<html><body><form></form></body></html>",
    "old html page": b'<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd"><p>',
    "html page of several pieces": b"<html><head><meta></head></html>",
    "long name": b"<" + b"a" * 900_000 + b"/>",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_document_is_refused_within_a_second_and_little_memory(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(UnreadableAnswerError) as refused:
        parse(body[:1_048_576])
    spent_seconds = time.process_time() - started
    tracemalloc.start()  # in a second run: tracing slows it down many times
    try:
        with pytest.raises(UnreadableAnswerError):
            parse(body[:1_048_576])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert spent_seconds < 1.0
    assert peak_bytes < 32 * 1_048_576
    assert refused.value.hostile


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_broken_document_is_unreadable_but_no_attack(body: bytes) -> None:
    with pytest.raises(UnreadableAnswerError) as refused:
        parse(body)

    assert not refused.value.hostile


def test_reason_repeats_nothing_of_the_document() -> None:
    with pytest.raises(UnreadableAnswerError) as refused:
        parse(b"<doc><canary-word>&canary-word;</doc>")

    assert "canary" not in str(refused.value)


def test_document_is_read_with_texts_attributes_and_references() -> None:
    body = (
        b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\n<doc lang="en"> <!-- note --><ok>a &amp; &#98;</ok>'
        b"<id> 12 </id><id/><?php x?><name><![CDATA[<b>]]></name></doc>"
    )

    root = parse(body)

    assert (root.name, root.attributes["lang"]) == ("doc", "en")
    assert root.value("ok") == "a & b"
    assert [each.text for each in root.all("id")] == ["12", ""]
    assert (root.value("id"), root.value("name"), root.value("absent")) == ("12", "<b>", "")


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 64 + b"</a>" * 64,
        b"<doc " + b" ".join(b'a%d="1"' % n for n in range(100)) + b"/>",
        b"<doc>" + b"<a/>" * 19_999 + b"</doc>",
        b"<doc>" + b"x" * 65_536 + b"</doc>",
        b'\n <?xml version="1.0" encoding="us-ascii"?><doc/>',
    ],
    ids=["depth", "attributes", "elements", "text", "space before the declaration"],
)
def test_document_at_the_limit_is_read(body: bytes) -> None:
    assert parse(body).name in {"a", "doc"}


def test_spent_budget_stops_the_reading() -> None:
    with pytest.raises(UnreadableAnswerError, match="too long"):
        parse(b"<doc><a/></doc>", budget_seconds=-1)


@pytest.mark.asyncio
async def test_document_is_read_off_the_event_loop() -> None:
    assert (await read_document(b"<doc><id>1</id></doc>")).value("id") == "1"
    with pytest.raises(UnreadableAnswerError):
        await read_document(b"<!DOCTYPE doc><doc/>")
