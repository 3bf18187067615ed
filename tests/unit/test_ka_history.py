"""The judge of a history: says nothing of a true one and names each way in which an answer can turn out false."""

from keyway.ka.client import Exchange
from keyway.ka.forms import Form
from keyway.ka.history import contradictions
from keyway.ka.http import Answer

PURCHASE: Form = (("APS_ACTION", "PURCHASE"), ("PURCHASE_ID", "1"))
RENEW: Form = (("APS_ACTION", "RENEW"), ("PURCHASE_ID", "1"))
TERMINATE: Form = (("APS_ACTION", "TERMINATE"), ("PURCHASE_ID", "1"))


def history(*told: tuple[Form, int | None, bytes]) -> list[Exchange]:
    return [
        Exchange(
            form=form,
            sent_at=float(moment),
            seconds=0.5,
            answer=None if status is None else Answer(status=status, headers={}, body=body),
        )
        for moment, (form, status, body) in enumerate(told)
    ]


def test_repeats_with_the_same_bytes_and_settled_unknowns_are_true() -> None:
    assert not contradictions(
        history(
            (PURCHASE, None, b""),
            (PURCHASE, 504, b""),
            (PURCHASE, 200, b"one"),
            (PURCHASE, 200, b"one"),
            (RENEW, 503, b""),
            (RENEW, 200, b"two"),
            (PURCHASE, 200, b"two"),
            (TERMINATE, 204, b""),
            (TERMINATE, 200, b"License 1 is terminated."),
        )
    )


def test_other_bytes_on_repeat_are_a_contradiction() -> None:
    assert "contradicts" in contradictions(history((PURCHASE, 200, b"one"), (PURCHASE, 200, b"two")))[0]


def test_an_overtaken_body_on_repeat_is_a_contradiction() -> None:
    told = history((PURCHASE, 200, b"one"), (RENEW, 200, b"two"), (PURCHASE, 200, b"one"))
    assert "contradicts" in contradictions(told)[0]


def test_a_refusal_after_success_is_a_contradiction() -> None:
    assert "refused" in contradictions(history((PURCHASE, 200, b"one"), (PURCHASE, 404, b"")))[0]


def test_an_unknown_that_nobody_settled_is_named() -> None:
    assert "never settled" in contradictions(history((PURCHASE, 200, b"one"), (RENEW, None, b"")))[0]


def test_licenses_are_judged_apart() -> None:
    other: Form = (("APS_ACTION", "PURCHASE"), ("PURCHASE_ID", "2"))
    assert not contradictions(history((PURCHASE, 200, b"one"), (other, 200, b"two")))
