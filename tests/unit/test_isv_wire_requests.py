"""The ISV form on the wire: every vector of docs/protocols/isv-endpoint.md, and bytes that mean no good."""

from dataclasses import replace
from datetime import date
from hashlib import sha256
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.wire.answer import Invalid
from gateway.wire.isv import IsvRequest, read_day, read_request
from shared.contracts.commands import (
    BodyDigest,
    LicenseCommand,
    LicensingModel,
    PurchaseLicense,
    RenewLicense,
    ReportUsage,
    TerminateLicense,
    UpgradeLicense,
)

PURCHASE = {
    "APS_PROTOCOL_MODEL": "2",
    "APS_ACTION": "PURCHASE",
    "APS_TEST_MODE": "N",
    "PURCHASE_ID": "00481516",
    "PRODUCT_ID": "Bronze",
    "PURCHASE_DATE": "05/02/2027",
    "SUBSCRIPTION_DATE": "05/02/2027",
    "START_DATE": "05/02/2027",
    "EXPIRY_DATE": "15/03/2027",
    "REG_NAME": "60321",
}
RENEW = PURCHASE | {"APS_ACTION": "RENEW", "PREVIOUS_LICENSE_BODY": "NCA4IDE1IDE2IDIzIDQy"}
UPGRADE = RENEW | {"APS_ACTION": "UPGRADE", "PRODUCT_ID": "Gold"}
TERMINATE = {"APS_ACTION": "TERMINATE", "PURCHASE_ID": "00481516"}
GET_INFO = {
    "APS_PROTOCOL_MODEL": "3",
    "APS_ACTION": "GET-INFO",
    "PURCHASE_ID": "00502001",
    "PRODUCT_ID": "CloudBackup",
    "REG_NAME": "60321",
}
LOST_NUMBERS = BodyDigest(sha256=sha256(b"4 8 15 16 23 42").hexdigest(), length_bytes=15)


def read(fields: dict[str, str], **changes: str | None) -> IsvRequest | Invalid:
    """Read `fields` with `changes` (None takes one out)."""
    changed = {name: value for name, value in (fields | changes).items() if value is not None}
    return read_request(urlencode(changed, quote_via=quote_plus).encode(), "ka")


def command(fields: dict[str, str], **changes: str | None) -> LicenseCommand:
    asked = read(fields, **changes)
    assert isinstance(asked, IsvRequest), asked
    return asked.command


def reason(fields: dict[str, str], **changes: str | None) -> str:
    asked = read(fields, **changes)
    assert isinstance(asked, Invalid), asked
    return asked.reason


def raw(body: bytes) -> IsvRequest | Invalid:
    return read_request(body, "ka")


def appended(tail: bytes) -> IsvRequest | Invalid:
    return raw(urlencode(PURCHASE).encode() + tail)


PURCHASED = PurchaseLicense(
    account="ka",
    number="00481516",
    product="Bronze",
    model=LicensingModel.STANDARD,
    test=False,
    expires_on=date(2027, 3, 15),
    start_on=date(2027, 2, 5),
    subscription_on=date(2027, 2, 5),
    purchase_on=date(2027, 2, 5),
    reg_name="60321",
)


def test_a_purchase_with_every_field_becomes_its_command() -> None:
    assert command(PURCHASE) == PURCHASED


def test_the_sample_dialect_means_the_same_but_for_the_flag_that_it_leaves_out() -> None:
    asked = raw(
        b"REG_NAME=60321&EXPIRY_DATE=15%5c03%5c2027&START_DATE=05%5c02%5c2027&SUBSCRIPTION_DATE=05%5c02%5c2027"
        b"&PURCHASE_DATE=05%5c02%5c2027&PRODUCT_ID=Bronze&PURCHASE_ID=00481516&APS_ACTION=PURCHASE"
    )
    assert asked == IsvRequest(replace(PURCHASED, test=None), unreadable_previous_body=False)


def test_each_action_becomes_its_command() -> None:
    renewed = command(RENEW)
    assert isinstance(renewed, RenewLicense)
    assert renewed.previous_body == LOST_NUMBERS
    upgraded = command(UPGRADE, EXPIRY_DATE=None)
    assert isinstance(upgraded, UpgradeLicense)
    assert (upgraded.product, upgraded.expires_on, upgraded.previous_body) == ("Gold", None, LOST_NUMBERS)
    assert command(TERMINATE) == TerminateLicense(account="ka", number="00481516", product=None, test=None)
    assert command(GET_INFO) == ReportUsage(
        account="ka", number="00502001", product="CloudBackup", test=None, reg_name="60321"
    )


def test_activation_data_and_unknown_names_travel_and_unknown_values_do_not() -> None:
    data = '{"domain":"shop.example.org","token":"9f1c+/A="}'
    asked = command(PURCHASE, ACTIVATION_DATA=data, X_CAMPAIGN="spring")
    assert asked == replace(PURCHASED, activation_data=data, unknown_fields=("X_CAMPAIGN",))


@pytest.mark.parametrize("written", ["12/03/2027", "12\\03\\2027"])
def test_both_ways_to_write_a_date_are_read(written: str) -> None:
    assert read_day(written) == date(2027, 3, 12)
    assert command(PURCHASE, EXPIRY_DATE=written) == replace(PURCHASED, expires_on=date(2027, 3, 12))


@pytest.mark.parametrize(
    "written",
    [
        *("12/03\\2027", "12-03-2027", "2027-03-12", "1/3/2027", "31/02/2027", "12/03/202", "00/00/0000", "12/13/2027"),
        *("29/02/2027", "١٢/٠٣/٢٠٢٧", "12/03/2027 ", "12/03/20271", " 2/03/2027", "12/03/2027\n"),
    ],
)
@pytest.mark.parametrize("field", ["EXPIRY_DATE", "START_DATE", "SUBSCRIPTION_DATE", "PURCHASE_DATE"])
def test_every_other_date_is_invalid(field: str, written: str) -> None:
    assert reason(PURCHASE, **{field: written}).startswith(field)


@pytest.mark.parametrize(
    "escaped", [b"12%2f03%2f2027", b"12%2F03%2F2027", b"12%5c03%5c2027", b"12%5C03%5C2027", b"12/03/2027"]
)
def test_dates_are_read_however_they_are_escaped(escaped: bytes) -> None:
    asked = raw(b"APS_ACTION=PURCHASE&PURCHASE_ID=1&PRODUCT_ID=Bronze&EXPIRY_DATE=" + escaped)
    assert isinstance(asked, IsvRequest)
    assert isinstance(asked.command, PurchaseLicense)
    assert asked.command.expires_on == date(2027, 3, 12)


@pytest.mark.parametrize("written", ["29/02/2028", "31/12/9999"])
def test_leap_days_and_the_last_day_of_all_are_days(written: str) -> None:
    assert isinstance(command(PURCHASE, EXPIRY_DATE=written), PurchaseLicense)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"EXPIRY_DATE": "15/03/2026"}, "EXPIRY_DATE 15/03/2026 is earlier than START_DATE 05/02/2027"),
        ({"START_DATE": "04/02/2027"}, "START_DATE 04/02/2027 is earlier than SUBSCRIPTION_DATE 05/02/2027"),
        (
            {"START_DATE": None, "EXPIRY_DATE": "04/02/2027"},
            "EXPIRY_DATE 04/02/2027 is earlier than SUBSCRIPTION_DATE 05/02/2027",
        ),
    ],
)
def test_dates_out_of_order_are_invalid(changes: dict[str, str | None], expected: str) -> None:
    assert reason(PURCHASE, **changes) == expected


def test_equal_dates_and_any_purchase_date_are_in_order() -> None:
    assert isinstance(command(PURCHASE, EXPIRY_DATE="05/02/2027", PURCHASE_DATE="06/03/2030"), PurchaseLicense)


@pytest.mark.parametrize(("given", "flag"), [(None, None), ("", None), ("N", False), ("Y", True)])
def test_the_test_flag_has_three_values(given: str | None, flag: bool | None) -> None:  # noqa: FBT001 - the flag itself
    for fields in (PURCHASE, RENEW, UPGRADE, TERMINATE, GET_INFO):
        assert command(fields, APS_TEST_MODE=given).test is flag


@pytest.mark.parametrize("given", ["y", "1", "n", "YN", " "])
def test_every_other_test_flag_is_invalid(given: str) -> None:
    for fields in (PURCHASE, RENEW, UPGRADE, TERMINATE, GET_INFO):
        assert "APS_TEST_MODE" in reason(fields, APS_TEST_MODE=given)


def test_the_model_is_standard_unless_said_otherwise() -> None:
    for absent in (None, ""):
        asked = command(PURCHASE, APS_PROTOCOL_MODEL=absent)
        assert isinstance(asked, PurchaseLicense)
        assert asked.model is LicensingModel.STANDARD
    reporting = command(PURCHASE, APS_PROTOCOL_MODEL="3")
    assert isinstance(reporting, PurchaseLicense)
    assert reporting.model is LicensingModel.REPORTING


@pytest.mark.parametrize("given", ["1", "4", "03", "x"])
def test_every_other_model_is_invalid(given: str) -> None:
    for fields in (PURCHASE, RENEW, UPGRADE, GET_INFO):
        assert "APS_PROTOCOL_MODEL" in reason(fields, APS_PROTOCOL_MODEL=given)


@pytest.mark.parametrize("given", [None, "", "2"])
def test_usage_is_asked_with_the_reporting_model_only(given: str | None) -> None:
    assert "APS_PROTOCOL_MODEL" in reason(GET_INFO, APS_PROTOCOL_MODEL=given)


def test_a_termination_needs_no_model_and_no_product() -> None:
    assert isinstance(command(TERMINATE, APS_PROTOCOL_MODEL="9", REG_NAME="x"), TerminateLicense)


@pytest.mark.parametrize("given", [None, "", "purchase", "PURCHASE ", "GET_INFO", "DROP", "X" * 31, "SUSPEND"])
def test_an_unknown_action_is_invalid(given: str | None) -> None:
    assert reason(PURCHASE, APS_ACTION=given).startswith("APS_ACTION is ")


def test_the_text_of_an_unknown_action_lists_the_known_ones() -> None:
    expected = "APS_ACTION is not one of PURCHASE, RENEW, UPGRADE, TERMINATE, GET-INFO"
    assert reason(PURCHASE, APS_ACTION="SUSPEND") == expected


def test_numbers_are_text_of_up_to_ten_digits() -> None:
    assert command(PURCHASE, PURCHASE_ID="0012345678").number == "0012345678"
    assert command(PURCHASE, PURCHASE_ID="00123456") != command(PURCHASE, PURCHASE_ID="123456")


@pytest.mark.parametrize(
    "given", [None, "", "00123456789", "EXT.00123456", "0012345a", "-1", "\uff11\uff12\uff13", "EXT.00123456.0012"]
)
def test_every_other_number_is_invalid(given: str | None) -> None:
    for fields in (PURCHASE, RENEW, UPGRADE, TERMINATE, GET_INFO):
        assert reason(fields, PURCHASE_ID=given).startswith("PURCHASE_ID is ")


def test_a_number_too_long_is_told_with_its_limit() -> None:
    assert reason(PURCHASE, PURCHASE_ID="00481516001") == "PURCHASE_ID is longer than 10 characters"


def test_sizes_are_counted_in_characters_after_decoding() -> None:
    assert command(PURCHASE, PRODUCT_ID="p" * 30) == replace(PURCHASED, product="p" * 30)
    assert reason(PURCHASE, PRODUCT_ID="p" * 31) == "PRODUCT_ID is longer than 30 characters"
    assert command(PURCHASE, REG_NAME="ж" * 100) == replace(PURCHASED, reg_name="ж" * 100)
    assert reason(PURCHASE, REG_NAME="ж" * 101) == "REG_NAME is longer than 100 characters"
    assert reason(PURCHASE, APS_TEST_MODE="NO") == "APS_TEST_MODE is longer than 1 character"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *((PURCHASE, name) for name in ("PURCHASE_ID", "PRODUCT_ID", "EXPIRY_DATE")),
        *((RENEW, name) for name in ("PURCHASE_ID", "PRODUCT_ID", "EXPIRY_DATE")),
        *((UPGRADE, name) for name in ("PURCHASE_ID", "PRODUCT_ID")),
        (TERMINATE, "PURCHASE_ID"),
        *((GET_INFO, name) for name in ("PURCHASE_ID", "PRODUCT_ID")),
    ],
)
def test_a_required_field_may_be_neither_absent_nor_empty(fields: dict[str, str], field: str) -> None:
    for absent in (None, ""):
        assert reason(fields, **{field: absent}) == f"{field} is missing"


def test_all_other_fields_may_be_absent() -> None:
    bare = ("APS_ACTION", "PURCHASE_ID", "PRODUCT_ID", "EXPIRY_DATE")
    for fields in (PURCHASE, RENEW):
        command({name: fields[name] for name in bare})
    command({name: UPGRADE[name] for name in ("APS_ACTION", "PURCHASE_ID", "PRODUCT_ID")})


def test_the_other_name_of_the_expiry_counts_when_the_first_is_absent() -> None:
    assert command(PURCHASE, EXPIRY_DATE=None, EXPIRY_FIELD="15/03/2027") == PURCHASED
    assert command(PURCHASE, EXPIRY_FIELD="16/03/2027") == PURCHASED


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("NCA4IDE1IDE2IDIzIDQy", b"4 8 15 16 23 42"),
        (" /8=", b"\xfb\xff"),
        (" /8", b"\xfb\xff"),
        ("NCA4\r\n\tIDE1IDE2IDIzIDQy\r\n", b"4 8 15 16 23 42"),
    ],
)
def test_a_previous_body_survives_form_encoding_and_wrapped_lines(text: str, body: bytes) -> None:
    digest = BodyDigest(sha256=sha256(body).hexdigest(), length_bytes=len(body))
    for fields in (RENEW, UPGRADE, TERMINATE):
        asked = command(fields, PREVIOUS_LICENSE_BODY=text)
        assert not isinstance(asked, PurchaseLicense | ReportUsage)
        assert asked.previous_body == digest


@pytest.mark.parametrize(
    "text", ["!!!!", "A", "A===", "NCA4IDE1IDE2IDIzIDQy====", "-_-_", "AA==AA==", "жжжж", "=", "QQ=Q"]
)
def test_a_previous_body_that_is_not_base64_stops_all_but_a_termination(text: str) -> None:
    for fields in (RENEW, UPGRADE):
        assert reason(fields, PREVIOUS_LICENSE_BODY=text) == "PREVIOUS_LICENSE_BODY is not Base64"
    asked = read(TERMINATE, PREVIOUS_LICENSE_BODY=text)
    assert isinstance(asked, IsvRequest)
    assert asked.unreadable_previous_body
    assert isinstance(asked.command, TerminateLicense)
    assert asked.command.previous_body is None


def test_nothing_that_a_termination_does_not_need_hinders_it() -> None:
    asked = read(
        TERMINATE,
        PREVIOUS_LICENSE_BODY="NCA4\x00",
        REG_NAME="ж" * 101,
        ACTIVATION_DATA="\x00",
        APS_PROTOCOL_MODEL="22",
        EXPIRY_DATE="tomorrow or so",
    )
    assert isinstance(asked, IsvRequest)
    assert asked.unreadable_previous_body
    assert asked.command == TerminateLicense(account="ka", number="00481516", product=None, test=None)
    for field, wrong in (("PRODUCT_ID", "a\x00"), ("APS_TERMINATION_DATE", "31/04/2027"), ("PURCHASE_ID", "1\x00")):
        assert reason(TERMINATE, **{field: wrong}).startswith(field)


def test_a_plus_sign_unescaped_in_base64_is_repaired() -> None:
    asked = raw(b"APS_ACTION=TERMINATE&PURCHASE_ID=1&PREVIOUS_LICENSE_BODY=+/8=")
    assert isinstance(asked, IsvRequest)
    assert isinstance(asked.command, TerminateLicense)
    assert asked.command.previous_body == BodyDigest(sha256=sha256(b"\xfb\xff").hexdigest(), length_bytes=2)


@pytest.mark.parametrize(
    "tail",
    [
        *(b"&A=\xff\xfe", b"&A=%ff", b"&A=%C3%28", b"&A=%c0%af", b"&A=%ed%a0%80", b"&%ff=A"),
        *(b"&A=%zz", b"&A=%", b"&A=%4", b"&A=%4g", b"&A=% 4"),
        *(b"&", b"&&B=1", b"&A", b"&=1", b"&" + b"&".join(b"F%d=1" % n for n in range(55))),
        *(b"&REG_NAME=other", b"&PURCHASE_ID=00481517", b"&PURCHASE_ID="),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_invalid(tail: bytes) -> None:
    assert isinstance(appended(tail), Invalid)


@pytest.mark.parametrize("body", [b"", b"&&", b"A", b"=1", b"\xef\xbb\xbf" + urlencode(PURCHASE).encode()])
def test_what_is_no_form_is_invalid(body: bytes) -> None:
    assert isinstance(raw(body), Invalid)


@pytest.mark.parametrize(
    "tail",
    [
        *(
            b"&REG_NAME=60321",
            b"&A=1&A=2",
            b"&A=",
            b"&A=%00",
            b"&" + b"n" * 300 + b"=1",
            b"&A=;b=2",
            b"&\xd0\xb6=\xd0\xb6",
        ),
        b"&" + b"&".join(b"F%d=1" % n for n in range(54)),
    ],
)
def test_repeats_and_unknown_fields_change_nothing(tail: bytes) -> None:
    asked = appended(tail)
    assert isinstance(asked, IsvRequest)
    assert isinstance(asked.command, PurchaseLicense)
    assert replace(asked.command, unknown_fields=()) == PURCHASED


def test_unknown_names_that_are_not_plain_are_not_carried() -> None:
    asked = command(PURCHASE, **{"n" * 65: "1", "a\x00b": "1", "fine-name": "1", "purchase_id": "2"})
    assert isinstance(asked, PurchaseLicense)
    assert asked.unknown_fields == ("?", "fine-name", "purchase_id")


@pytest.mark.parametrize("control", ["\x00", "\x01", "\x1f", "\x0b", "\x0c"])
@pytest.mark.parametrize("field", ["ACTIVATION_DATA", "REG_NAME", "PRODUCT_ID"])
def test_control_characters_are_invalid(field: str, control: str) -> None:
    assert reason(PURCHASE, **{field: f"a{control}b"}) == f"{field} holds a control character"


@pytest.mark.parametrize("space", ["\t", "\r", "\n", "\r\nX-Evil: 1"])
def test_line_breaks_are_data_in_free_text_and_nowhere_else(space: str) -> None:
    assert command(PURCHASE, ACTIVATION_DATA=f"a{space}b") == replace(PURCHASED, activation_data=f"a{space}b")
    assert command(PURCHASE, REG_NAME=f"a{space}b") == replace(PURCHASED, reg_name=f"a{space}b")
    assert reason(PURCHASE, PRODUCT_ID=f"a{space}b") == "PRODUCT_ID holds a control character"


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE license;--",
        "{{7*7}}",
        "${jndi:ldap://x}",
        "<!ENTITY a>",
        "=cmd()",
        "\U0001f600\u202e",
        "%25",
        "a;b",
        "a=b",
        "a&b",
    ],
)
def test_activation_data_is_kept_as_it_is(text: str) -> None:
    assert command(PURCHASE, ACTIVATION_DATA=text) == replace(PURCHASED, activation_data=text)


def test_escapes_are_decoded_once() -> None:
    asked = appended(b"&ACTIVATION_DATA=%2525")
    assert isinstance(asked, IsvRequest)
    assert asked.command == replace(PURCHASED, activation_data="%25")


FORM_LIKE = st.lists(
    st.tuples(
        st.sampled_from(
            [*PURCHASE, "PREVIOUS_LICENSE_BODY", "ACTIVATION_DATA", "EXPIRY_FIELD", "APS_TERMINATION_DATE", "X"]
        ),
        st.one_of(
            st.text(),
            st.sampled_from([*PURCHASE.values(), "RENEW", "UPGRADE", "TERMINATE", "GET-INFO", "3", "Y", "=", "  "]),
        ),
    ),
    max_size=20,
).map(lambda pairs: "&".join(f"{name}={quote(value, errors='replace')}" for name, value in pairs).encode())


@given(st.one_of(st.binary(), FORM_LIKE))
@example(b"%")
@example(b"\xff=\xff")
def test_no_bytes_raise_and_no_text_is_long_or_has_a_line_break(body: bytes) -> None:
    asked = raw(body)
    if isinstance(asked, Invalid):
        assert len(asked.reason) < 150
        assert asked.reason.isprintable()
