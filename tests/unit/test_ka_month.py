"""The month that `keyway demo` plays: stories that hang together, and a judge that sees when one goes wrong."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest

from keyway.ka.acts import ACTS, LEVELS, PROVIDER, SUMS, Act
from keyway.ka.client import Exchange
from keyway.ka.http import Answer
from keyway.ka.month import GRACE, PERIOD, STANDARD_MONTH, Scene, Step, charge_faults, event_faults, faults
from shared.domain.provisioning import RENEWAL_MARGIN_DAYS
from shared.domain.term import months_later

every_act = pytest.mark.parametrize("act", ACTS, ids=lambda act: act.title)
SCENE = Scene(first_day=date(2027, 2, 5), number="00481516")


def answered(status: int, body: bytes = b"body") -> Exchange:
    return Exchange(form=(), sent_at=0, seconds=0, answer=Answer(status=status, headers={}, body=body))


def step(name: str, steps: Sequence[Step] = STANDARD_MONTH) -> Step:
    return next(step for step in steps if step.name == name)


def played(steps: Sequence[Step] = STANDARD_MONTH) -> Scene:
    return replace(SCENE, answers={step.name: answered(step.status) for step in steps})


def told(kind: str, product: str = "Gold", revision: int = 3) -> dict[str, object]:
    return {"type": f"keyway.license.{kind}", "data": {"product": product, "revision": revision}}


@every_act
def test_days_never_run_backwards_and_every_step_can_be_asked(act: Act) -> None:
    days = [step.day for step in act.steps]
    assert days == sorted(days)
    assert days[0] == 0
    assert all(dict(step.request(played(act.steps)))["PURCHASE_ID"] == "00481516" for step in act.steps)


@every_act
def test_steps_have_names_of_their_own_and_repeat_earlier_ones_only(act: Act) -> None:
    names = [step.name for step in act.steps]
    assert len(set(names)) == len(names)
    assert all(step.same_as in names[:place] for place, step in enumerate(act.steps) if step.same_as)


@every_act
def test_each_new_body_and_the_end_is_followed_by_one_event(act: Act) -> None:
    revisions = [step.licensed.revision for step in act.steps if step.licensed and step.events]
    assert revisions == list(range(1, len(revisions) + 1))
    assert [step.name for step in act.steps if step.status == 204 and not step.events] == []
    assert sum(len(step.events) for step in act.steps) == len(revisions) + 1


def test_only_products_of_a_provider_need_its_panel() -> None:
    assert [act.needs_panel for act in ACTS] == [any(step.charges for step in act.steps) for act in ACTS]


def test_some_report_is_sent_twice_and_changes_no_figure() -> None:
    sent = [report.name for each in SUMS for report in each.reports]
    once = {report.name: report for each in SUMS for report in each.reports}
    assert len(sent) > len(once)
    total = sum(report.value for report in once.values() if report.counter == "sentGigabytes")
    assert total == 9.5
    assert '"sentGigabytes":10,' in step("used-more", SUMS).text


def test_the_silence_is_longer_than_a_level_lives() -> None:
    assert step("silent", LEVELS).day - step("used", LEVELS).day >= 2


@pytest.mark.parametrize("first_day", [date(2027, 1, 31), date(2027, 2, 5), date(2028, 1, 30), date(2027, 7, 15)])
def test_a_renewal_is_one_period_upstream_whatever_the_month(first_day: date) -> None:
    reached = months_later(first_day, 1)
    wanted = first_day + PERIOD * 2 + GRACE - timedelta(days=RENEWAL_MARGIN_DAYS)
    assert reached < wanted <= months_later(reached, 1)


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


def test_events_that_tell_of_the_step_have_no_fault() -> None:
    assert event_faults(step("upgraded"), [told("upgraded")]) == []
    assert event_faults(step("terminated"), [told("terminated", "NFR-Gold", 4)]) == []


@pytest.mark.parametrize(
    "events",
    [
        [],
        [told("renewed")],
        [told("upgraded"), told("upgraded")],
        [told("upgraded", product="Bronze")],
        [told("upgraded", revision=4)],
        [{"type": "keyway.license.upgraded", "data": None}],
    ],
)
def test_each_kind_of_wrong_events_is_a_fault(events: Sequence[dict[str, object]]) -> None:
    assert len(event_faults(step("upgraded"), events)) == 1


def test_the_books_of_the_provider_are_judged_both_ways() -> None:
    renewed, released = step("renewed", PROVIDER), step("terminated-again", PROVIDER)
    assert charge_faults(renewed, ["order", "prolong"], ended=False) == []
    assert len(charge_faults(renewed, ["order"], ended=False)) == 1
    assert len(charge_faults(renewed, ["order", "prolong", "prolong"], ended=False)) == 1
    assert len(charge_faults(renewed, ["order", "prolong"], ended=True)) == 1
    assert charge_faults(released, ["order", "prolong"], ended=True) == []
    assert len(charge_faults(released, ["order", "prolong"], ended=False)) == 1
