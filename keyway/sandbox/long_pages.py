"""Long requests: a page with a relative address instead of the answer, fetched by GET until the document is there.

Rules: docs/protocols/isplicense.md 1, 12 (example 17), 13.4 `long_page`. The effect has happened at the POST; the
answer waits on disk, so a restart does not lose it.
"""

import base64
import hashlib
from dataclasses import replace

from keyway.sandbox.answer import HTML_TYPE, Answer
from keyway.sandbox.call import Draft, numeric
from keyway.sandbox.faults.spoil import FOREIGN_HOST
from keyway.sandbox.rows import FaultRule, LongPage

LONG_FUNC = "long"
NEVER = -1


def parked(answer: Answer, rule: FaultRule, draft: Draft) -> Answer:
    """Return the first waiting page, with the answer put aside in the draft."""
    token = hashlib.sha256(f"{draft.world.seed}:long:{draft.token()}".encode()).hexdigest()[:12]
    hops = NEVER if rule.args["kind"] == "endless" else max(numeric(rule.args["hops"]), 1)
    body = base64.b64encode(answer.body).decode()
    draft.put(LongPage(token=token, hops=hops, content_type=answer.content_type, body_base64=body))
    host = f"http://{FOREIGN_HOST}/manager/" if rule.args["kind"] == "foreign" else ""
    return _waiting_page(host + _address(token))


def fetched(page: LongPage, draft: Draft) -> Answer:
    """Return what this GET of a long request sees: the same page again, or at the last hop the document."""
    if page.hops == NEVER:
        return _waiting_page(_address(page.token))
    if page.hops > 1:
        draft.put(replace(page, hops=page.hops - 1))
        return _waiting_page(_address(page.token))
    return Answer(content_type=page.content_type, body=base64.b64decode(page.body_base64))


def _address(token: str) -> str:
    """Return the relative address; the same on every page, so `routes` serves it from wherever it is resolved."""
    return f"long/{token}/billmgr"


def _waiting_page(address: str) -> Answer:
    page = f'<html><head><meta http-equiv="refresh" content="1;url={address}"></head></html>\n'
    return Answer(content_type=HTML_TYPE, body=page.encode())
