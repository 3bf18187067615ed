"""JSON bodies and query strings of the Partner API: what is read, and what is refused with which type."""

import json

import pytest

from gateway.routes.partner_calls import Action, Place, read_place, unknown_key
from gateway.wire.partner import read_change, read_new_key
from gateway.wire.partner_answers import admits_json, is_json, key_file_answer, location_head
from gateway.wire.partner_errors import Fault, FaultType
from gateway.wire.partner_query import Query, read_address, read_query
from shared.contracts.key_commands import KeyMember, KeyMembers, KeyReference, WantedActivation, WantedItem
from shared.domain.key_queries import KeyFile


def fault_of(body: bytes | dict[str, object]) -> tuple[str, str]:
    read = read_change(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(read, Fault), read
    return read.type.value, read.details.get("field", "")


def members_of(body: bytes | dict[str, object]) -> KeyMembers:
    read = read_change(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(read, KeyMembers), read
    return read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"true",
        b"[]",
        b'"x"',
        b"{}",
        b"7",
        b'{"nickname":"a",}',
        b"{'nickname':'a'}",
        b'{"nickname":NaN}',
        b'{"x":Infinity}',
        b'{"nickname":"a"}{"nickname":"b"}',
        b'\xef\xbb\xbf{"nickname":"a"}',
        '{"nickname":"a"}'.encode("utf-16"),
        b'{"nickname":"\xff"}',
        b'{"nickname":"\\ud800"}',
        b'{"\\ud800":1}',
        b'{"x":["\\udfff"]}',
        b'{"nickname":"a","nickname":"b"}',
        b'{"nickname":"a","nickname":"a"}',
        b'{"x":{"a":1,"a":2}}',
        b'{"items":[{"item":"A","item":"A"}]}',
        b'{"x":' + b"[" * 1025 + b"]" * 1025 + b"}",
        b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"nickname":"a\n"}',
        b'{"nickname":"a"',
        b"\x00",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_single_object_with_members_named_once_is_30001(body: bytes) -> None:
    assert fault_of(body) == ("30001", "")


def test_duplicate_members_are_found_at_the_end_of_a_body_of_half_a_mebibyte() -> None:
    body = b'{"nickname":"a","x":"' + b"y" * 524_000 + b'","nickname":"b"}'
    assert fault_of(body) == ("30001", "")


@pytest.mark.parametrize("number", ["123456789012345678901234567890", "18446744073709551616", "9007199254740993"])
@pytest.mark.parametrize("place", ["productConfigurationId", "keyIdentifiers.keyId", "items[0].quantity"])
def test_numbers_that_some_reader_would_round_are_30002(number: str, place: str) -> None:
    assert fault_of(placed(place, number)) == ("30002", place)


@pytest.mark.parametrize("number", ["-0", "1e400", "1.0", "-1", "1e2", "true", "[]", '"1.0"', '"-1"', '""', '"\u0661"'])
@pytest.mark.parametrize("place", ["productConfigurationId", "keyIdentifiers.keyId", "items[0].quantity"])
def test_what_is_no_whole_number_is_30002(number: str, place: str) -> None:
    assert fault_of(placed(place, number)) == ("30002", place)


def placed(place: str, number: str) -> bytes:
    forms = {
        "productConfigurationId": '{"productConfigurationId":%s}',
        "keyIdentifiers.keyId": '{"keyIdentifiers":{"keyId":%s}}',
        "items[0].quantity": '{"items":[{"item":"A","quantity":%s}]}',
    }
    return (forms[place] % number).encode()


@pytest.mark.parametrize("body", [b'{"ownerId":1.0}', b'{"ownerId":true}', b'{"ownerId":1e400}', b'{"ownerId":[]}'])
def test_an_owner_is_text_or_a_whole_number(body: bytes) -> None:
    assert fault_of(body) == ("30002", "ownerId")


def test_scalars_are_accepted_in_the_spellings_of_vendor_clients() -> None:
    read = members_of(
        b'{"ownerId":70010002,"suspended":"False","autoRenew":1,"restrictIPBinding":"TRUE","terminated":0,'
        b'"productConfigurationId":"502","keyIdentifiers":{"keyId":"20240401"},'
        b'"activationInfo":{"uid":"ops@example.org","activated":1},'
        b'"items":[{"item":"A","externalId":17,"quantity":"5"}]}'
    )
    assert read.owner_id == "70010002"
    assert (read.suspended, read.auto_renew, read.restrict_address, read.terminated) == (False, True, True, False)
    assert read.configuration_id == 502
    assert read.guard == KeyReference(key_id=20240401)
    assert read.activation == WantedActivation(uid="ops@example.org", activated=True)
    assert read.items == (WantedItem(item="A", quantity=5, external_id="17", external_id_given=True),)


@pytest.mark.parametrize("value", ['"yes"', '"1"', "2", "-1", "1.0", "[]", "{}", '""', '"no"'])
@pytest.mark.parametrize("field", ["suspended", "terminated", "autoRenew", "restrictIPBinding"])
def test_other_spellings_of_booleans_are_30002(field: str, value: str) -> None:
    assert fault_of(f'{{"{field}":{value}}}'.encode()) == ("30002", field)


@pytest.mark.parametrize(
    "field", ["ownerId", "keyIdentifiers", "restrictIPBinding", "terminated", "suspended", "autoRenew"]
)
def test_forbidden_nulls_are_30003(field: str) -> None:
    assert fault_of({field: None}) == ("30003", field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"keyIdentifiers": {"keyId": None}}, "keyIdentifiers.keyId"),
        ({"keyIdentifiers": {"keyNumber": None}}, "keyIdentifiers.keyNumber"),
        ({"parentKeyIdentifiers": {"activationCode": None}}, "parentKeyIdentifiers.activationCode"),
        ({"activationInfo": {"activated": None}}, "activationInfo.activated"),
        ({"items": [{"item": None}]}, "items[0].item"),
        ({"items": [{"item": "A", "quantity": None}]}, "items[0].quantity"),
    ],
)
def test_nulls_inside_are_30003_with_their_place(body: dict[str, object], field: str) -> None:
    assert fault_of(body) == ("30003", field)


def test_omitted_null_and_value_stay_three_inputs() -> None:
    nullable = {
        "parentKeyIdentifiers": KeyMember.PARENT,
        "activationInfo": KeyMember.ACTIVATION,
        "ipAddressBinding": KeyMember.ADDRESS,
        "nickname": KeyMember.NICKNAME,
        "productConfigurationId": KeyMember.CONFIGURATION,
        "items": KeyMember.ITEMS,
    }
    for name, member in nullable.items():
        read = members_of({name: None})
        assert read.given == (member,)
        assert getattr(read, member.value) is None
    assert members_of({"somethingElse": 1}) == KeyMembers()
    assert members_of({"nickname": ""}).nickname == ""


def test_external_reference_omitted_null_and_given_stay_apart() -> None:
    read = members_of({"items": [{"item": "A"}, {"item": "B", "externalId": None}, {"item": "C", "externalId": "x"}]})
    assert read.items is not None
    assert [(item.external_id_given, item.external_id) for item in read.items] == [
        (False, None),
        (True, None),
        (True, "x"),
    ]


def test_read_only_and_unknown_members_are_ignored_whatever_they_hold() -> None:
    read = members_of(
        {
            "__proto__": {"terminated": True},
            "status": "TERMINATED",
            "ownerSuspended": None,
            "creationDate": 5,
            "childKeyIdentifiers": "x",
            "expirationDate": "2199-01-01T00:00:00.000Z",
            "constructor": [1.5],
            "nickname": "n",
        }
    )
    assert read == KeyMembers(given=(KeyMember.NICKNAME,), nickname="n")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nickname": "x" * 256}, "nickname"),
        ({"nickname": "x" * 10_240}, "nickname"),
        ({"nickname": 5}, "nickname"),
        ({"nickname": "a\0b"}, "nickname"),
        ({"items": {}}, "items"),
        ({"items": "A"}, "items"),
        ({"items": ["A"]}, "items[0]"),
        ({"items": [{"item": "A"}] * 101}, "items"),
        ({"items": [{}]}, "items[0].item"),
        ({"items": [{"item": ""}]}, "items[0].item"),
        ({"items": [{"item": "A", "externalId": "x" * 256}]}, "items[0].externalId"),
        ({"items": [{"item": "A", "externalId": 1.5}]}, "items[0].externalId"),
        ({"items": [{"item": "A", "quantity": 0}]}, "items[0].quantity"),
        ({"items": [{"item": "A", "quantity": 1_000_001}]}, "items[0].quantity"),
        ({"keyIdentifiers": []}, "keyIdentifiers"),
        ({"keyIdentifiers": {"keyNumber": 5}}, "keyIdentifiers.keyNumber"),
        ({"parentKeyIdentifiers": {}}, "parentKeyIdentifiers"),
        ({"parentKeyIdentifiers": {"activationLink": "x"}}, "parentKeyIdentifiers"),
        ({"parentKeyIdentifiers": 20240317}, "parentKeyIdentifiers"),
        ({"activationInfo": "ops@example.org"}, "activationInfo"),
        ({"activationInfo": {"uid": 7}}, "activationInfo.uid"),
    ],
)
def test_wrong_types_and_broken_limits_are_30002(body: dict[str, object], field: str) -> None:
    assert fault_of(body) == ("30002", field)


@pytest.mark.parametrize(
    "address",
    ["fe80::1%eth0", "203.0.113.0/24", "localhost", "203.0.113.007", "256.1.1.1", "", " 203.0.113.7", "1::2::3"],
)
def test_what_is_no_address_is_30002(address: str) -> None:
    assert fault_of({"ipAddressBinding": address}) == ("30002", "ipAddressBinding")


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("0.0.0.0", "0.0.0.0"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:DB8:0:0:0:0:0:17", "2001:db8::17"),
    ],
)
def test_addresses_become_canonical(written: str, canonical: str) -> None:
    assert members_of({"ipAddressBinding": written}).address == canonical


def test_nicknames_keep_line_breaks_and_direction_marks() -> None:
    text = "a\nb\u202ec\U0001f5dd"
    assert members_of({"nickname": text}).nickname == text
    assert members_of({"nickname": "x" * 255}).nickname == "x" * 255


def test_an_empty_guard_is_read_and_left_to_the_key() -> None:
    assert members_of({"keyIdentifiers": {}}).guard == KeyReference()
    assert members_of({"keyIdentifiers": {"activationLink": None}}).guard == KeyReference()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"nickname": "a"}, ("30002", "items")),
        ({"items": []}, ("30002", "items")),
        ({"items": None}, ("30003", "items")),
        ({"items": [{"item": "A"}], "terminated": True}, ("30002", "terminated")),
        ({"items": [{"item": "A"}], "suspended": "true"}, ("30002", "suspended")),
        ({"items": [{"item": "A"}], "keyIdentifiers": {"keyId": 1}}, ("30005", "keyIdentifiers")),
        ({"items": [{"item": "A"}], "keyIdentifiers": None}, ("30003", "keyIdentifiers")),
    ],
)
def test_what_a_new_key_must_not_say(body: dict[str, object], expected: tuple[str, str]) -> None:
    read = read_new_key(json.dumps(body).encode())
    assert isinstance(read, Fault)
    assert (read.type.value, read.details.get("field")) == expected


def test_a_new_key_may_say_that_it_is_neither_terminated_nor_suspended() -> None:
    read = read_new_key(b'{"items":[{"item":"A"}],"terminated":false,"suspended":0,"keyIdentifiers":{}}')
    assert isinstance(read, KeyMembers)


@pytest.mark.parametrize("text", ["yes", "true", "1", "YES", "True"])
def test_true_has_three_spellings_in_any_case(text: str) -> None:
    query = read_query(f"return-key-state={text}")
    assert isinstance(query, Query)
    assert query.flag("return-key-state") is True


@pytest.mark.parametrize("text", ["no", "false", "0", "No", "FALSE"])
def test_false_has_three_spellings_in_any_case(text: str) -> None:
    query = read_query(f"x=%20&return-key-state={text}")
    assert isinstance(query, Query)
    assert query.flag("return-key-state") is False


@pytest.mark.parametrize(
    "raw",
    [
        "return-key-state=maybe",
        "return-key-state=",
        "return-key-state",
        "return-key-state=yes&return-key-state=yes",
        "return-key-state=yes&return%2Dkey-state=no",
        "return-key-state=%00",
        "return-key-state=" + "y" * 300,
    ],
)
def test_other_values_and_repeated_parameters_are_30004(raw: str) -> None:
    query = read_query(raw)
    assert isinstance(query, Query)
    assert query.flag("return-key-state") == Fault(FaultType.PARAMETER, {"parameter": "return-key-state"})


@pytest.mark.parametrize("raw", ["a=%ff", "a=%zz", "a=%", "&".join(["a=1"] * 65)])
def test_query_strings_that_cannot_be_decoded_are_30004(raw: str) -> None:
    query = read_query(raw)
    assert isinstance(query, Fault)
    assert query.type is FaultType.PARAMETER


def test_absent_parameters_are_none() -> None:
    query = read_query("")
    assert isinstance(query, Query)
    assert (query.flag("a"), query.text("a"), query.whole("a", maximum=9), query.one_of("a", ("x",))) == (None,) * 4


@pytest.mark.parametrize(
    "text", ["-1", "12345678901234567890", "..", "/", "PLSK.20240317.0000", "", "1 ", "٣", "a" * 34]
)
def test_names_that_no_key_can_have(text: str) -> None:
    assert read_address(text) is None


def test_both_forms_of_a_name() -> None:
    assert read_address("020240317") == KeyReference(key_id=20240317)
    code = "QK10A7-ZZ81MM-04TB5X-PL9W2C-7HD3RE"
    assert read_address(code.lower()) == KeyReference(activation_code=code)


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/30/keys", "POST", Place(Action.CREATE, "")),
        ("/30/keys/7/remaining-activations", "POST", Place(Action.SET_ACTIVATIONS, "7")),
        ("/30/keys/a%2Fb", "PUT", Place(Action.MODIFY, "a/b")),
        ("/30/keys/7", "PATCH", Fault(FaultType.METHOD, {"allowed": "GET, PUT, DELETE"})),
        ("/30/keys/7/renew", "POST", Fault(FaultType.METHOD, {"allowed": "GET"})),
        ("/30/keys/7/", "GET", Fault(FaultType.NOT_FOUND)),
        ("/30/keys/", "POST", Fault(FaultType.NOT_FOUND)),
        ("/30/keys//renew", "GET", Fault(FaultType.NOT_FOUND)),
        ("/30/keys/7/key", "GET", Fault(FaultType.NOT_FOUND)),
        ("/30/keys/7/renew/x", "GET", Fault(FaultType.NOT_FOUND)),
        ("/30/owners", "GET", Fault(FaultType.NOT_FOUND)),
        ("/30/", "GET", Fault(FaultType.NOT_FOUND)),
    ],
)
def test_places(path: str, method: str, expected: Place | Fault) -> None:
    assert read_place(path, method) == expected


def test_only_plain_names_are_shown() -> None:
    assert unknown_key("99999999").details == {"key": "99999999"}
    assert unknown_key("a\nb").details == {"key": ""}
    assert unknown_key("9" * 65).details == {"key": ""}


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=UTF8", 'Application/JSON;charset="utf-8"', "application/json;q=1"],
)
def test_media_types_that_are_json(media_type: str) -> None:
    assert is_json([media_type])


@pytest.mark.parametrize(
    "media_types",
    [[], [""], ["text/json"], ["application/json; charset=latin1"], ["application/json"] * 2, ["application/jsonx"]],
)
def test_media_types_that_are_not(media_types: list[str]) -> None:
    assert not is_json(media_types)


@pytest.mark.parametrize(
    ("accept", "admitted"),
    [
        ([], True),
        (["*/*"], True),
        (["text/html, application/json;q=0.1"], True),
        (["application/*"], True),
        (["text/html"], False),
        (["application/json;q=0"], False),
        (["application/json;q=0, */*"], False),
        (["application/json;q=0.0"], False),
        (["nonsense"], False),
        ([""], True),
    ],
)
def test_what_an_accept_header_admits(accept: list[str], *, admitted: bool) -> None:
    assert admits_json(accept) is admitted


def test_location_never_quotes_a_host_that_is_none() -> None:
    assert location_head("https", "api.example:8443", b"7") == b"Location: https://api.example:8443/30/keys/7\r\n"
    assert location_head("https", "[::1]:80", b"7") == b"Location: https://[::1]:80/30/keys/7\r\n"
    assert location_head("https", "a b/evil", b"7") == b"Location: /30/keys/7\r\n"


def test_a_key_file_is_xml_around_the_body_and_bare_in_the_older_form() -> None:
    file = KeyFile(key_number="PLSK.20240317.0000", revision=2, body=b"a<b")
    answer = key_file_answer(file, previous_version=False)
    assert b"attachment; filename=PLSK.20240317.0000.xml\r\n" in answer.head
    assert b'<body encoding="text">a&lt;b</body>' in answer.body
    assert key_file_answer(file, previous_version=True).body == b"a<b"
    binary = key_file_answer(KeyFile(key_number="PLSK.1.0", revision=1, body=b"\xff"), previous_version=False)
    assert b'<body encoding="base64">/w==</body>' in binary.body
