"""What the panel does, rule by rule (docs/protocols/isplicense.md 13.3), without a socket."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from keyway.sandbox.answer import rendered
from keyway.sandbox.call import Call, Mischief
from keyway.sandbox.catalog import PRODUCTS, Kind, money, money_text, months_later
from keyway.sandbox.document import Element, find
from keyway.sandbox.forms import Form
from keyway.sandbox.log import EffectLog
from keyway.sandbox.panel import Handled, Panel
from keyway.sandbox.rows import Account, Activation, MoneyMode
from keyway.sandbox.store import Opening, Store
from shared.clock import MachineClock

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
O1 = {"clicked_button": "finish", "ip": "203.0.113.10", "licname": "web", "period": "1", "pricelist": "546"}
O2 = {"clicked_button": "finish", "pa_ip": "203.0.113.20", "period": "1", "pricelist": "264"}
O3 = {"clicked_button": "finish", "period": "1", "pricelist": "356"}
SUBMIT = {"sok": "ok", "skipbasket": "on", "autoprolong": "null"}


class Desk:
    """A panel and a caller at it, with a clock that the test turns."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.panel = Panel(store)
        self.now = NOW
        self.address = "192.0.2.1"
        self.number = 0

    def call(self, func: str, /, mischief: Mischief | None = None, **parameters: str) -> Handled:
        """Call as the reseller unless other credentials are given."""
        self.number += 1
        given = {"authinfo": "reseller:pw", "lang": "en", "func": func, **parameters}
        return self.panel.answer(
            Call(
                form=Form(parameters=given, query_names=frozenset()),
                func=func,
                lang=given["lang"],
                user=given["authinfo"].partition(":")[0],
                address=self.address,
                url="http://panel.example/manager/billmgr",
                now=self.now,
                request_number=self.number,
                attempt="",
                mischief=mischief or Mischief(),
            )
        )

    def order(self, **parameters: str) -> str:
        """Order as O1 does; the new id."""
        return text(self.call("softexternal.order.param", **{**O1, **SUBMIT, **parameters}), "id")

    def profile(self, **members: object) -> None:
        """Change members of the profile."""
        self.store.commit([replace(self.store.state.profile, **members)])

    @property
    def charged(self) -> list[str]:
        """The ledger's amounts."""
        return [money_text(charge.amount) for charge in self.store.state.charges]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opening = Opening(seed="test", user="reseller", password="pw", balance=money("1000"))
    store = Store(EffectLog(tmp_path), opening, MachineClock())
    yield Desk(store)
    store.close()


def text(handled: Handled, tag: str) -> str:
    found = find(handled.document, tag)
    assert found is not None, handled
    return found.text


def rows(handled: Handled, cell: str) -> list[str]:
    listed = (child for child in handled.document.children if child.tag == "elem")
    return [found.text for row in listed if (found := find(row, cell)) is not None]


def is_form(handled: Handled) -> bool:
    return (
        handled.outcome == "ok" and find(handled.document, "ok") is None and find(handled.document, "slist") is not None
    )


def test_catalog_is_the_table_of_the_protocol_page() -> None:
    page = (Path(__file__).parents[2] / "docs/protocols/isplicense.md").read_text(encoding="utf-8")
    kinds = {"O1": Kind.SOFTEXTERNAL, "O2": Kind.PARALLELSLIC, "O3": Kind.ADDITION}
    table = re.findall(r"^\| `[A-Z0-9-]+` \| [^|]+ \| (\d+) \| (\d*)[^|]* \| (O\d) \|$", page, re.MULTILINE)

    ours = {(str(item.code), str(item.node_code or ""), item.kind) for item in PRODUCTS.values()}

    assert ours == {(code, node, kinds[order]) for code, node, order in table}
    assert len(PRODUCTS) == 23


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("5", "5.00"),
        ("913.9286", "913.9286"),
        ("0.1", "0.10"),
        ("-1.5", "-1.50"),
        ("1e2", "100.00"),
        ("0.125", "0.125"),
    ],
)
def test_money_is_exact_text(amount: str, written: str) -> None:
    assert money_text(money(amount)) == written


@pytest.mark.parametrize("wrong", ["", "five", "1.00001", "NaN", "Infinity"])
def test_wrong_money_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimal"):
        money(wrong)


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2026-12-15", 1, "2027-01-15"),
        ("2026-01-31", 12, "2027-01-31"),
        ("2028-02-29", 12, "2029-02-28"),
    ],
)
def test_months_end_on_days_that_exist(day: str, months: int, later: str) -> None:
    assert months_later(date.fromisoformat(day), months).isoformat() == later


@pytest.mark.parametrize(
    ("func", "changes", "error"),
    [
        ("softexternal", {"pricelist": ""}, "wizard_unavailable/"),
        ("softexternal", {"pricelist": "999"}, "value/pricelist"),
        ("softexternal", {"pricelist": "264"}, "value/pricelist"),
        ("softexternal", {"pricelist": "999", "period": "99"}, "value/pricelist"),
        ("softexternal", {"period": ""}, "value/period"),
        ("softexternal", {"period": "2"}, "value/period"),
        ("softexternal", {"period": "0"}, "value/period"),
        ("softexternal", {"period": "2", "ip": "x"}, "value/period"),
        ("softexternal", {"ip": ""}, "value/ip"),
        ("softexternal", {"ip": "x", "licname": ""}, "value/ip"),
        ("softexternal", {"licname": ""}, "value/licname"),
        ("softexternal", {"licname": "Ж" * 256}, "value/licname"),
        ("parallelslic", {"pa_ip": "300.1.1.1"}, "value/pa_ip"),
        ("parallelslic", {"pricelist": "229"}, "value/pricelist"),
        ("addition", {}, "value/item"),
        ("addition", {"item": "12345"}, "missed/item"),
        ("addition", {"item": "x" * 40}, "missed/item"),
        ("addition", {"pricelist": "229"}, "value/pricelist"),
    ],
)
def test_orders_are_checked_in_the_stated_order(desk: Desk, func: str, changes: dict[str, str], error: str) -> None:
    base = {"softexternal": O1, "parallelslic": O2, "addition": O3}[func]

    handled = desk.call(f"{func}.order.param", **{**base, **SUBMIT, **changes})

    assert handled.outcome == f"error {error}"
    assert (desk.store.state.services, desk.charged) == ({}, [])


@pytest.mark.parametrize("address", ["2001:db8::1", "203.0.113.9"])
def test_both_address_families_are_addresses(desk: Desk, address: str) -> None:
    desk.order(ip=address)

    assert rows(desk.call("softexternal"), "ip") == [address]


@pytest.mark.parametrize("changes", [{"sok": ""}, {"clicked_button": ""}, {"clicked_button": "next"}])
def test_unfinished_order_echoes_the_form(desk: Desk, changes: dict[str, str]) -> None:
    handled = desk.call("softexternal.order.param", **{**O1, **SUBMIT, **changes})

    assert is_form(handled)
    assert (text(handled, "ip"), text(handled, "licname")) == ("203.0.113.10", "web")
    assert desk.store.state.services == {}


def test_order_without_skipbasket_goes_to_the_cart(desk: Desk) -> None:
    handled = desk.call("softexternal.order.param", **O1, sok="ok")

    assert (text(handled, "billorder"), text(handled, "ok")) == ("8801", "func=basket")
    assert rows(desk.call("basket"), "cost") == ["5.00"]
    assert desk.call("basket", clicked_button="delete", id="8801", sok="ok").outcome == "ok"
    assert rows(desk.call("basket"), "id") == []
    assert desk.call("basket", clicked_button="delete", id="8801", sok="ok").outcome == "error missed/id"
    assert desk.charged == []


@pytest.mark.parametrize(("period", "charge", "expires"), [("1", "4.00", "2026-02-28"), ("12", "40.00", "2027-01-31")])
def test_periods_have_their_price_and_end(desk: Desk, period: str, charge: str, expires: str) -> None:
    desk.order(pricelist="229", period=period)

    assert desk.charged == [charge]
    assert rows(desk.call("softexternal"), "expiredate") == [expires]


def test_lifetime_has_a_phrase_for_its_end_and_no_renewal(desk: Desk) -> None:
    elid = desk.order(pricelist="229", period="0")

    assert desk.charged == ["160.00"]
    assert rows(desk.call("softexternal"), "expiredate") == ["Unlimited"]
    assert desk.call("service.prolong", elid=elid, period="1", sok="ok").outcome == "error value/period"
    assert desk.charged == ["160.00"]


def test_unique_ip_refuses_a_second_living_license(desk: Desk) -> None:
    desk.profile(unique_ip=True)
    first = desk.order()

    second = desk.call("softexternal.order.param", **O1, **SUBMIT)
    other_tariff = desk.call("softexternal.order.param", **{**O1, **SUBMIT, "pricelist": "547"})
    check = desk.call("soft.checkip", pricelist="546", period="1", ip="203.0.113.10")
    desk.call("softexternal.delete", elid=first)
    third = desk.call("softexternal.order.param", **O1, **SUBMIT)

    assert (second.outcome, check.outcome) == ("error exists/ip", "error exists/ip")
    assert (other_tariff.outcome, third.outcome) == ("ok", "ok")
    assert desk.call("soft.checkip", pricelist="546", period="1", ip="203.0.113.99").outcome == "ok"


@pytest.mark.parametrize(
    ("activation", "course"),
    [
        (Activation(mode="instant"), ["2", "2", "2", "2"]),
        (Activation(mode="delayed", ms_ordered=1000, ms_processing=1000), ["1", "5", "2", "2"]),
        (Activation(mode="stuck"), ["5", "5", "5", "5"]),
        (Activation(mode="unpaid"), ["1", "1", "1", "1"]),
        (Activation(mode="fails", ms_processing=2000), ["5", "5", "4", "4"]),
    ],
)
def test_activation_profiles_run_their_course(desk: Desk, activation: Activation, course: list[str]) -> None:
    desk.profile(activation=activation)
    desk.order()

    seen = []
    for _ in course:
        seen += rows(desk.call("softexternal"), "status")
        desk.now += timedelta(seconds=1)

    assert seen == course
    assert desk.charged == ["5.00"]


def test_module_needs_a_living_license_of_the_caller(desk: Desk) -> None:
    desk.store.commit([Account(user="second", password="pw", balance=money("100"))])
    foreign = text(desk.call("softexternal.order.param", **O1, **SUBMIT, authinfo="second:pw"), "id")
    own = desk.order()

    refused = desk.call("addition.order.param", **O3, **SUBMIT, item=foreign)
    taken = desk.call("addition.order.param", **O3, **SUBMIT, item=own)
    desk.call("softexternal.delete", elid=own)
    too_late = desk.call("addition.order.param", **O3, **SUBMIT, item=own)
    desk.profile(module_requires_item=False)
    alone = desk.call("addition.order.param", **O3, **SUBMIT)

    outcomes = [handled.outcome for handled in (refused, taken, too_late, alone)]
    assert outcomes == ["error missed/item", "ok", "error missed/item", "ok"]


@pytest.mark.parametrize(
    ("func", "changes", "error"),
    [
        ("softexternal.edit", {"ip": "x"}, "value/ip"),
        ("softexternal.edit", {"ip": ""}, "value/ip"),
        ("softexternal.edit", {"licname": ""}, "value/licname"),
        ("soft.edit", {"addon_550": "1"}, "value/addon_550"),
        ("soft.edit", {"addon_550": "-1"}, "value/addon_550"),
        ("soft.edit", {"addon_550": "many"}, "value/addon_550"),
        ("soft.edit", {"addon_550": "10001"}, "value/addon_550"),
        ("parallelslic.edit", {}, "missed/elid"),
        ("softexternal.edit", {"elid": "0"}, "missed/elid"),
        ("softexternal.edit", {"elid": "40001, 40001"}, "missed/elid"),
        ("softexternal.edit", {"elid": ""}, "missed/elid"),
    ],
)
def test_wrong_edits_change_nothing(desk: Desk, func: str, changes: dict[str, str], error: str) -> None:
    elid = desk.order(pricelist="549")
    desk.call("soft.edit", elid=elid, addon_550="2", sok="ok")
    before = desk.store.state.services[int(elid)]

    handled = desk.call(func, **{"elid": elid, "sok": "ok", **changes})

    assert handled.outcome == f"error {error}"
    assert desk.store.state.services[int(elid)] == before


def test_unknown_addon_is_ignored_and_plesk_is_not_external(desk: Desk) -> None:
    elid = desk.order()
    plesk = text(desk.call("parallelslic.order.param", **O2, **SUBMIT), "id")

    assert desk.call("soft.edit", elid=elid, addon_550="3", sok="ok").outcome == "ok"
    assert desk.call("softexternal.edit", elid=plesk, licname="x", sok="ok").outcome == "error missed/elid"
    assert desk.call("softexternal.delete", elid=plesk).outcome == "error missed/elid"
    assert desk.call("parallelslic.edit", elid=plesk, licname="x", sok="ok").outcome == "ok"
    assert text(desk.call("parallelslic.edit", elid=plesk), "activation_code").startswith(f"{plesk}-")
    assert len(desk.charged) == 2


def test_new_key_replaces_the_old_one(desk: Desk) -> None:
    elid = desk.order()
    old = text(desk.call("soft.edit", elid=elid), "lickey")

    new = text(desk.call("soft.edit", elid=elid, clicked_button="newkey", sok="ok"), "lickey")

    assert new == text(desk.call("soft.edit", elid=elid), "lickey") != old
    assert new.startswith(f"{elid}-")


@pytest.mark.parametrize(("money_mode", "error"), [("payment_required", None), ("error_money", "sandbox_no_money")])
def test_nothing_is_bought_without_money(desk: Desk, money_mode: MoneyMode, error: str | None) -> None:
    elid = desk.order(pricelist="549")
    desk.store.commit([replace(desk.store.state.accounts["reseller"], balance=money("2.99"))])
    desk.profile(money_mode=money_mode)
    before = desk.store.state.services[int(elid)]

    nodes = desk.call("soft.edit", elid=elid, addon_550="1", sok="ok")
    renewal = desk.call("service.prolong", elid=elid, period="1", sok="ok")

    for handled in (nodes, renewal):
        assert handled.outcome == (f"error {error}/balance" if error else "ok")
        assert (find(handled.document, "billorder") is None) is (error is not None)
    assert desk.store.state.services[int(elid)] == before
    assert desk.charged == ["15.00"]


def test_renewal_counts_from_the_end_or_for_a_suspended_one_from_today(desk: Desk) -> None:
    active, suspended = desk.order(), desk.order()
    desk.call("softexternal.suspend", elid=suspended)
    desk.now += timedelta(days=3)

    desk.call("service.prolong", elid=active, period="1", sok="ok")
    desk.call("service.prolong", elid=suspended, period="1", sok="ok")

    assert rows(desk.call("softexternal"), "expiredate") == ["2026-03-28", "2026-03-03"]
    assert rows(desk.call("softexternal"), "status") == ["2", "3"]


def test_renewal_includes_the_nodes(desk: Desk) -> None:
    elid = desk.order(pricelist="549")
    desk.call("soft.edit", elid=elid, addon_550="2", sok="ok")

    desk.call("service.prolong", elid=elid, period="1", sok="ok")

    assert desk.charged == ["15.00", "6.00", "21.00"]


@pytest.mark.parametrize("mode", ["stuck", "unpaid"])
def test_only_running_services_renew(desk: Desk, mode: str) -> None:
    desk.profile(activation=Activation(mode=mode))
    elid = desk.order()

    assert desk.call("service.prolong", elid=elid, period="1", sok="ok").outcome == "error value/elid"
    assert desk.call("softexternal.suspend", elid=elid).outcome == "error value/elid"


def test_renewal_without_sok_shows_the_form(desk: Desk) -> None:
    elid = desk.order()

    assert text(desk.call("service.prolong", elid=elid, period="1"), "expiredate") == "2026-02-28"
    assert desk.charged == ["5.00"]


def test_list_of_ids_is_deleted_whole_or_not_at_all(desk: Desk) -> None:
    first, second = desk.order(), desk.order()

    refused = desk.call("softexternal.delete", elid=f"{first}, {second}, 77")
    untouched = rows(desk.call("softexternal"), "status")
    done = desk.call("softexternal.delete", elid=f"{first}, {second}")

    assert (refused.outcome, untouched, done.outcome) == ("error missed/elid", ["2", "2"], "ok")
    assert rows(desk.call("softexternal"), "status") == ["4", "4"]


def test_suspend_and_resume_need_no_sok(desk: Desk) -> None:
    elid = desk.order()

    desk.call("softexternal.suspend", elid=elid)
    suspended = rows(desk.call("softexternal"), "status")
    desk.call("softexternal.resume", elid=elid)

    assert (suspended, rows(desk.call("softexternal"), "status")) == (["3"], ["2"])


def test_deleted_row_lingers_for_its_time(desk: Desk) -> None:
    desk.profile(deleted_linger_seconds=60)
    desk.call("softexternal.delete", elid=desk.order())

    desk.now += timedelta(seconds=59)
    lingering = rows(desk.call("softexternal"), "status")
    desk.now += timedelta(seconds=1)

    assert (lingering, rows(desk.call("softexternal"), "status")) == (["4"], [])


def test_pages_have_fifty_rows_unless_asked(desk: Desk) -> None:
    for _ in range(55):
        desk.order()

    default = desk.call("softexternal")
    second = desk.call("softexternal", p_num="2")
    wide = desk.call("softexternal", p_cnt="54", p_num="2")
    nonsense = desk.call("softexternal", p_cnt="0", p_num="-1")

    assert [len(rows(handled, "id")) for handled in (default, second, wide, nonsense)] == [50, 5, 1, 50]
    assert [text(default, name) for name in ("p_elems", "p_num", "p_cnt")] == ["55", "1", "50"]


def test_saved_filter_sticks_to_its_user_and_list(desk: Desk) -> None:
    desk.store.commit([Account(user="second", password="pw", balance=money("100"))])
    desk.order(licname="alpha")
    desk.order(licname="beta")
    desk.call("softexternal.order.param", **O1, **SUBMIT, authinfo="second:pw")

    desk.call("softexternal.filter", licname="ALP", sok="ok")

    assert rows(desk.call("softexternal"), "licname") == ["alpha"]
    assert text(desk.call("softexternal"), "p_elems") == "1"
    assert text(desk.call("softexternal.filter"), "licname") == "ALP"
    assert rows(desk.call("softexternal", authinfo="second:pw"), "licname") == ["web"]
    desk.call("softexternal.filter", licname="", sok="ok")
    assert len(rows(desk.call("softexternal"), "licname")) == 2


def test_split_types_moves_vendor_products_to_their_own_list(desk: Desk) -> None:
    elid = desk.order()
    desk.call("parallelslic.order.param", **O2, **SUBMIT)
    together = [rows(desk.call(name), "id") for name in ("softexternal", "soft", "parallelslic")]
    desk.profile(split_types=True)

    split = [rows(desk.call(name), "id") for name in ("softexternal", "soft", "parallelslic")]

    assert together == [[elid], [], ["40002"]]
    assert split == [[], [elid], ["40002"]]
    assert desk.call("softexternal.edit", elid=elid, licname="x", sok="ok").outcome == "ok"


def test_remoteid_is_listed_unless_the_profile_hides_it(desk: Desk) -> None:
    desk.order(remoteid="lb-1")
    shown = rows(desk.call("softexternal"), "remoteid")
    desk.profile(list_remoteid=False)

    assert (shown, rows(desk.call("softexternal"), "remoteid")) == (["lb-1"], [])


def test_each_user_sees_and_touches_only_its_own(desk: Desk) -> None:
    desk.store.commit([Account(user="second", password="pw", balance=money("100"))])
    elid = desk.order()
    second = {"authinfo": "second:pw"}

    assert rows(desk.call("softexternal", **second), "id") == []
    assert rows(desk.call("expense", **second), "id") == []
    for func in ("soft.edit", "softexternal.delete", "service.prolong"):
        assert desk.call(func, elid=elid, period="1", sok="ok", **second).outcome == "error missed/elid"


def test_balance_is_told_three_ways_unless_refused(desk: Desk) -> None:
    desk.order()
    user = find(desk.call("whoami").document, "user")
    assert user is not None
    payments = desk.call("payment")

    assert rows(desk.call("subaccount"), "balance") == ["995.00"]
    assert dict(user.attributes)["balance"] == "995.00"
    assert (rows(payments, "amount"), rows(payments, "status")) == (["1000.00"], ["4"])
    desk.profile(balance_readable=False)
    assert desk.call("subaccount").outcome == "error access/subaccount"
    assert desk.call("whoami").outcome == "ok"


def test_charges_are_listed_with_their_service(desk: Desk) -> None:
    elid = desk.order()
    desk.call("service.prolong", elid=elid, period="1", sok="ok")

    listed = desk.call("expense")

    assert rows(listed, "amount") == ["5.00", "5.00"]
    assert rows(listed, "main_item") == [elid, elid]
    assert rows(listed, "realdate") == ["2026-01-31 12:00:00"] * 2
    assert rows(listed, "intname") == [f"ISPmanager 6 Lite #{elid} ({reason})" for reason in ("order", "prolong")]


def test_price_list_needs_no_user_and_names_every_tariff(desk: Desk) -> None:
    everything = desk.call("pricelist.export", authinfo="")
    modules = desk.call("pricelist.export", authinfo="", itemtype="addition")

    assert rows(everything, "id") == [str(code) for code in PRODUCTS]
    assert len(rows(modules, "id")) == 7
    assert (
        b'<price currency="EUR"><period cost="5.00" type="month" length="1"/>' in rendered(everything.document, "").body
    )


def test_menu_names_the_lists(desk: Desk) -> None:
    assert b'<node name="parallelslic"/>' in rendered(desk.call("menu").document, "").body


@pytest.mark.parametrize("out", ["json", "sjson", "xjson"])
def test_json_is_the_same_document_by_rule(desk: Desk, out: str) -> None:
    desk.order()
    handled = desk.call("softexternal", out=out)

    body = rendered(handled.document, out).body

    assert b'"elem":{"id":{"$":"40001"}' in body
    assert b'"item_status":{"$orig":"2_2_16","$color":"green","$":"Active"}' in body


def test_equal_siblings_become_an_array_in_json() -> None:
    document = Element("doc", children=(Element("id", "1"), Element("id", "2"), Element("id", "3"), Element("ok")))

    assert rendered(document, "json").body == b'{"doc":{"id":[{"$":"1"},{"$":"2"},{"$":"3"}],"ok":{}}}'


def test_other_formats_are_xml() -> None:
    assert rendered(Element("doc", children=(Element("ok"),)), "bjson").body.startswith(b"<?xml")


def test_xml_carries_only_what_xml_can(desk: Desk) -> None:
    desk.order(licname='a<b>&"c"\x00\x1f \ufffeЖ')

    body = rendered(desk.call("softexternal").document, "xml").body

    assert "<licname>a&lt;b&gt;&amp;&quot;c&quot; Ж</licname>".encode() in body


def test_russian_changes_words_and_no_types(desk: Desk) -> None:
    elid = desk.order()

    error = rendered(desk.call("soft.edit", elid="1", lang="ru").document, "").body.decode()
    listed = desk.call("softexternal", lang="ru")

    assert rows(listed, "item_status") == ["Активен"]
    assert 'type="missed" object="elid" lang="ru"' in error
    assert "Элемент не существует" in error
    assert rows(desk.call("softexternal", lang="en"), "id") == [elid]


@pytest.mark.parametrize("func", ["", "softexternal.clone", "__class__", "SOFTEXTERNAL"])
def test_unknown_functions_are_missed_after_authentication(desk: Desk, func: str) -> None:
    assert desk.call(func).outcome == "error missed/func"
    assert desk.call(func, authinfo="reseller:wrong").outcome == "error auth/badpassword"


@pytest.mark.parametrize("authinfo", ["", "reseller", "reseller:", "reseller:PW", "nobody:pw", ":pw", "reseller:pw:"])
def test_wrong_credentials_are_refused(desk: Desk, authinfo: str) -> None:
    assert desk.call("whoami", authinfo=authinfo).outcome == "error auth/badpassword"


def log_in(desk: Desk) -> str:
    found = find(desk.call("auth", authinfo="", username="reseller", password="pw").document, "auth")
    assert found is not None
    return found.text


def test_session_dies_idle_and_serves_one_address(desk: Desk) -> None:
    session = log_in(desk)
    outcomes = []
    for minutes in (59, 59, 61):
        desk.now += timedelta(minutes=minutes)
        outcomes.append(desk.call("whoami", authinfo="", auth=session).outcome)
    fresh = log_in(desk)
    desk.address = "192.0.2.2"

    assert outcomes == ["ok", "ok", "error auth/badpassword"]
    assert fresh != session
    assert desk.call("whoami", authinfo="", auth=fresh).outcome == "error auth/badpassword"


def test_second_factor_stands_before_everything(desk: Desk) -> None:
    desk.store.commit([replace(desk.store.state.accounts["reseller"], otp="424242")])
    session = log_in(desk)

    pending = desk.call("softexternal.order.param", **O1, **SUBMIT, authinfo="", auth=session)
    wrong = desk.call("totp.confirm", authinfo="", auth=session, qrcode="000000", sok="ok")
    right = desk.call("totp.confirm", authinfo="", auth=session, qrcode="424242", sok="ok")
    confirmed = find(right.document, "auth")

    assert confirmed is not None
    assert text(pending, "ok") == "func=totp.confirm"
    assert wrong.outcome == "error value/qrcode"
    assert rows(desk.call("subaccount", authinfo="", auth=confirmed.text), "balance") == ["1000.00"]
    assert text(desk.call("whoami"), "ok") == "func=totp.confirm"


def test_address_list_refuses_strangers(desk: Desk) -> None:
    desk.store.commit([replace(desk.store.state.accounts["reseller"], allow_ips=("192.0.2.0/28", "2001:db8::1"))])

    inside = desk.call("whoami")
    desk.address = "192.0.2.99"

    assert (inside.outcome, desk.call("whoami").outcome) == ("ok", "error access/authinfo")


def test_ban_blocks_even_the_right_password_for_its_time(desk: Desk) -> None:
    desk.profile(ban=True)
    failures = [desk.call("whoami", authinfo="reseller:wrong").outcome for _ in range(5)]

    blocked = desk.call("whoami")
    desk.address, here = "192.0.2.2", desk.address
    elsewhere = desk.call("whoami")
    desk.address = here
    desk.now += timedelta(minutes=15)

    assert set(failures) == {"error auth/badpassword"}
    assert (blocked.outcome, elsewhere.outcome) == ("error auth/blocked", "ok")
    assert desk.call("whoami").outcome == "ok"


def test_slow_failures_do_not_ban(desk: Desk) -> None:
    desk.profile(ban=True)
    for _ in range(12):
        desk.call("whoami", authinfo="reseller:wrong")
        desk.now += timedelta(minutes=3)

    assert desk.call("whoami").outcome == "ok"


def test_autoprolong_charges_unasked_when_its_day_comes(desk: Desk) -> None:
    desk.order(autoprolong="1")
    desk.order(autoprolong="null")
    desk.now += timedelta(days=60)

    listed = rows(desk.call("softexternal"), "expiredate")

    assert listed == ["2026-04-28", "2026-02-28"]
    assert [charge.reason for charge in desk.store.state.charges] == ["order", "order", "autoprolong", "autoprolong"]
    assert rows(desk.call("subaccount"), "balance") == ["980.00"]


def test_autoprolong_stops_at_an_empty_balance(desk: Desk) -> None:
    desk.order(autoprolong="1")
    desk.store.commit([replace(desk.store.state.accounts["reseller"], balance=money("5"))])
    desk.now += timedelta(days=90)

    assert rows(desk.call("softexternal"), "expiredate") == ["2026-03-28"]
    assert rows(desk.call("subaccount"), "balance") == ["0.00"]


def test_autoprolong_left_out_follows_the_profile(desk: Desk) -> None:
    left_out = {**O1, "sok": "ok", "skipbasket": "on"}
    desk.call("softexternal.order.param", **left_out)
    desk.profile(autoprolong_default="1")
    desk.call("softexternal.order.param", **left_out)

    assert rows(desk.call("softexternal"), "autoprolong") == ["null", "1"]


def test_expired_licenses_end_where_the_profile_says_so(desk: Desk) -> None:
    desk.order()
    seen = {}
    for acts, day in ((False, "2026-02-28"), (False, "2026-06-01"), (True, "2026-03-01"), (True, "2026-03-30")):
        desk.profile(expiry_acts=acts)
        desk.now = datetime.fromisoformat(f"{day}T00:00:00Z")
        seen[acts, day] = rows(desk.call("softexternal"), "status")
    desk.now += timedelta(days=1)

    assert list(seen.values()) == [["2"], ["2"], ["3"], ["3"]]
    assert rows(desk.call("softexternal"), "status") == ["4"]


def test_noise_changes_nothing_that_counts(desk: Desk) -> None:
    desk.profile(noise=True)
    ids = [desk.order() for _ in range(8)]

    handled = desk.call("softexternal")
    orders = {tuple(child.tag for child in desk.call("whoami").document.children) for _ in range(12)}

    assert sorted(rows(handled, "id")) == sorted(ids)
    assert len(set(ids)) == 8
    assert len(orders) > 1


def test_same_seed_same_keys(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    def key_of_first_order(seed: str) -> str:
        opening = Opening(seed=seed, user="reseller", password="pw", balance=money("10"))
        store = Store(EffectLog(tmp_path_factory.mktemp("seed")), opening, MachineClock())
        other = Desk(store)
        key = text(other.call("soft.edit", elid=other.order()), "lickey")
        store.close()
        return key

    assert key_of_first_order("test") == text(desk.call("soft.edit", elid=desk.order()), "lickey")
    assert key_of_first_order("other") != key_of_first_order("test")


def random_calls(desk: Desk) -> list[Callable[[int], Handled]]:
    return [
        lambda n: desk.call("softexternal.order.param", **{**O1, **SUBMIT, "pricelist": ("546", "549")[n % 2]}),
        lambda n: desk.call("soft.edit", elid=str(40_001 + n % 7), addon_550=str(n % 5), sok="ok"),
        lambda n: desk.call("service.prolong", elid=str(40_001 + n % 7), period="1", sok="ok"),
        lambda n: desk.call("softexternal.delete", elid=str(40_001 + n % 11)),
        lambda n: desk.call("softexternal.suspend", elid=str(40_001 + n % 5)),
        lambda n: desk.call("softexternal.order.param", Mischief(double_effect=True), **{**O1, **SUBMIT, "x": str(n)}),
    ]


def test_balance_ledger_and_journal_words_always_agree(desk: Desk) -> None:
    calls = random_calls(desk)
    charged = 0
    for step in range(300):
        charged += calls[(step * 7 + step // 11) % len(calls)](step).charged

    state = desk.store.state
    assert charged == sum(charge.amount for charge in state.charges)
    assert state.accounts["reseller"].balance == money("1000") - charged >= 0
    assert [charge.number for charge in state.charges] == list(range(1, len(state.charges) + 1))
    ordered = [charge.service_id for charge in state.charges if charge.reason == "order"]
    paid = [service.id for service in state.services.values() if service.paid]
    assert ordered == sorted(paid)
