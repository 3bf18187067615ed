"""The month that `keyway demo` plays: a story that hangs together, and a judge that sees when it goes wrong."""

from dataclasses import replace
from datetime import date

import pytest

from keyway.ka.client import Exchange
from keyway.ka.http import Answer
from keyway.ka.month import STANDARD_MONTH, Scene, Step, faults

SCENE = Scene(first_day=date(2027, 2, 5), number="00481516")


def answered(status: int, body: bytes = b"body") -> Exchange:
    return Exchange(form=(), sent_at=0, seconds=0, answer=Answer(status=status, headers={}, body=body))


def step(name: str) -> Step:
    return next(step for step in STANDARD_MONTH if step.name == name)


def played() -> Scene:
    return replace(SCENE, answers={step.name: answered(step.status) for step in STANDARD_MONTH})


def test_days_never_run_backwards_and_every_step_can_be_asked() -> None:
    days = [step.day for step in STANDARD_MONTH]
    assert days == sorted(days)
    assert all(dict(step.request(played()))["PURCHASE_ID"] == "00481516" for step in STANDARD_MONTH)


def test_steps_have_names_of_their_own_and_repeat_earlier_ones_only() -> None:
    names = [step.name for step in STANDARD_MONTH]
    assert len(set(names)) == len(names)
    assert all(step.same_as in names[:place] for place, step in enumerate(STANDARD_MONTH) if step.same_as)


def test_the_repeated_renewal_differs_from_the_first_in_its_purchase_date_alone() -> None:
    first, again = (dict(step(name).request(played())) for name in ("renewed", "renewed-again"))
    assert {name for name in first if first[name] != again[name]} == {"PURCHASE_DATE"}


def test_good_answers_have_no_fault() -> None:
    claims: dict[str, object] = {"product": "Gold", "revision": 3}
    assert not faults(step("upgraded"), answered(200), played(), claims)
    refusal = b"Error: upgrade from Gold to Silver is not offered."
    assert not faults(step("downgrade"), answered(400, refusal), played(), None)


@pytest.mark.parametrize(
    ("name", "exchange", "claims"),
    [
        ("upgraded", answered(504), {"product": "Gold", "revision": 3}),
        ("upgraded", answered(200), {"product": "Bronze", "revision": 3}),
        ("upgraded", answered(200), {"product": "Gold", "revision": 4}),
        ("upgraded", answered(200), None),
        ("bought-again", answered(200, b"other"), {"product": "Bronze", "revision": 1}),
        ("downgrade", answered(400, b"Error: no."), None),
        ("terminated", Exchange(form=(), sent_at=0, seconds=0, answer=None, problem="reset"), None),
    ],
)
def test_each_kind_of_wrong_answer_is_a_fault(name: str, exchange: Exchange, claims: dict[str, object] | None) -> None:
    assert len(faults(step(name), exchange, played(), claims)) == 1
