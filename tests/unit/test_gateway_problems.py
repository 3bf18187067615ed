"""The table of problems: complete, short, one line each, and silent about what was not checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problems import REFUSED, REJECTIONS, UNANSWERED, Refused, Unanswered, invalid, rejected
from gateway.wire.answer import Answer, Invalid
from shared.contracts.codec import encode_details
from shared.contracts.outcomes import PARTNER_ERROR_TYPES, RejectionCode
from shared.contracts.replies import Reply, ReplyStatus

ANSWERS = [*REFUSED.values(), *UNANSWERED.values(), *(problem.answer({}) for problem in REJECTIONS.values())]


def rejection(code: RejectionCode, **details: str) -> Answer:
    found = rejected(Reply(ReplyStatus.REJECTED, code.value.encode(), encode_details(details)))
    assert found is not None
    assert found[0] is code
    return found[1]


def test_every_way_to_say_no_has_its_row() -> None:
    assert set(REJECTIONS) | set(PARTNER_ERROR_TYPES) == set(RejectionCode)
    assert set(UNANSWERED) == set(Unanswered)
    assert set(REFUSED) == set(Refused)


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_problem_is_one_short_plain_line(answer: Answer) -> None:
    text = answer.body.decode()
    assert text.startswith("Error: ")
    assert text.endswith(".")
    assert text.isprintable()
    assert len(text) <= 200
    assert b"Content-Type: text/plain; charset=UTF-8\r\n" in answer.head
    assert answer.head.endswith(b"\r\n")


def test_unavailable_and_unfinished_say_when_to_come_back() -> None:
    for answer in ANSWERS:
        assert (b"Retry-After: " in answer.head) == (answer.status in {503, 504})


@pytest.mark.parametrize(
    ("code", "details", "status", "text"),
    [
        (
            RejectionCode.LICENSE_EXISTS,
            {"number": "00481516"},
            409,
            "Error: license 00481516 already exists with different parameters.",
        ),
        (
            RejectionCode.UPGRADE_NOT_OFFERED,
            {"from": "Gold", "to": "Silver"},
            400,
            "Error: upgrade from Gold to Silver is not offered.",
        ),
        (
            RejectionCode.LICENSE_TERMINATED,
            {"number": "00481516", "action": "renewed"},
            409,
            "Error: license 00481516 is terminated and cannot be renewed.",
        ),
        (
            RejectionCode.LICENSE_TERMINATED,
            {"number": "1", "action": "purchased again"},
            409,
            "Error: license 1 is terminated and cannot be purchased again.",
        ),
        (RejectionCode.USAGE_NOT_REPORTED, {"product": "Bronze"}, 400, "Error: product Bronze has no usage report."),
        (RejectionCode.USAGE_UNAVAILABLE, {}, 503, "Error: usage data are temporarily unavailable."),
        (
            RejectionCode.EXPIRY_EARLIER,
            {"expiry": "15/03/2027", "current": "15/04/2027"},
            400,
            "Error: the expiry date 15/03/2027 is earlier than the current 15/04/2027.",
        ),
    ],
)
def test_rejections_are_told_in_the_words_of_the_protocol_page(
    code: RejectionCode, details: dict[str, str], status: int, text: str
) -> None:
    answer = rejection(code, **details)
    assert (answer.status, answer.body.decode()) == (status, text)


@given(
    st.sampled_from(sorted(REJECTIONS)), st.dictionaries(st.sampled_from(["product", "number", "from", "x"]), st.text())
)
def test_no_detail_breaks_the_line(code: RejectionCode, details: dict[str, str]) -> None:
    text = rejection(code, **details).body.decode()
    assert text.isprintable()
    assert text.isascii()
    assert len(text) <= 200


@given(st.binary(), st.binary())
def test_rejections_of_another_age_are_not_understood_and_nothing_worse(code: bytes, details: bytes) -> None:
    found = rejected(Reply(ReplyStatus.REJECTED, code, details))
    assert found is None or isinstance(found[1], Answer)


def test_an_invalid_request_is_a_400_with_its_reason() -> None:
    answer = invalid(Invalid("PURCHASE_ID is missing"))
    assert (answer.status, answer.body) == (400, b"Error: PURCHASE_ID is missing.")
