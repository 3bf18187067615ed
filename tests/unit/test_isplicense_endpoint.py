"""Where a panel may stand: a table of addresses, names that change their mind, and settings that stop the start."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.errors import ConfigurationError
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.endpoint import PinningResolver, endpoint_of, is_permitted


def account(base_url: str, *, loopback_allowed: bool = False, ca_file: Path | None = None) -> PanelAccount:
    return PanelAccount(
        base_url=base_url,
        user="reseller",
        password=SecretStr("pw"),
        loopback_allowed=loopback_allowed,
        ca_file=ca_file,
    )


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://panel.example", "https://panel.example/manager/billmgr"),
        ("https://panel.example/", "https://panel.example/manager/billmgr"),
        ("https://panel.example:1500//", "https://panel.example:1500/manager/billmgr"),
        ("https://panel.example/billmgr", "https://panel.example/billmgr"),
        ("https://panel.example/billmgr/", "https://panel.example/billmgr"),
        ("https://panel.example/manager/billmgr?func=x#y", "https://panel.example/manager/billmgr"),
        ("https://panel.example/sub", "https://panel.example/sub/manager/billmgr"),
        ("https://PANEL.example", "https://panel.example/manager/billmgr"),
        ("https://xn--80ak6aa92e.example", "https://xn--80ak6aa92e.example/manager/billmgr"),
        ("https://8.8.8.8", "https://8.8.8.8/manager/billmgr"),
        ("https://[2001:4860:4860::8888]:1500", "https://[2001:4860:4860::8888]:1500/manager/billmgr"),
    ],
)
def test_base_address_is_normalized(base_url: str, expected: str) -> None:
    endpoint = endpoint_of(account(base_url))

    assert str(endpoint.url) == expected
    assert endpoint.tls is not None
    assert endpoint.tls.minimum_version.name == "TLSv1_2"
    assert endpoint.tls.check_hostname


REFUSED = [
    "http://panel.example",
    "http://127.0.0.1:8080",
    "http://localhost",
    "https://localhost",
    "https://127.0.0.1",
    "https://127.1",
    "https://2130706433",
    "https://0x7f000001",
    "https://0x7f.1",
    "https://0177.0.0.1",
    "https://[::1]",
    "https://[::ffff:127.0.0.1]",
    "https://[::ffff:7f00:1]",
    "https://[64:ff9b::7f00:1]",
    "https://[2002:7f00:1::]",
    "https://[fe80::1]",
    "https://[fe80::1%25eth0]",
    "https://[fd00::1]",
    "https://[ff02::1]",
    "https://[::]",
    "https://0.0.0.0",
    "https://10.0.0.1",
    "https://172.16.0.1",
    "https://192.168.1.1",
    "https://169.254.169.254",
    "https://100.64.0.1",
    "https://224.0.0.1",
    "https://255.255.255.255",
    "https://panel",
    "https://panel.",
    "https://user@panel.example",
    "https://user:secret@panel.example",
    "https://panel.example@127.0.0.1",
    "https://@127.0.0.1",
    "https://panel.example:0x50",
    "https://panel.example:99999",
    "https://pänel.example",
    "https://panel。example",
    "https://panel.example/a b",
    "https://panel.example/\r\nX: y",
    "https://panel.example/%2e%2e/x",
    "https://panel.example/..;/x",
    "ftp://panel.example",
    "file:///etc/passwd",
    "//panel.example",
    "panel.example",
    "https://",
    "",
]


@pytest.mark.parametrize("base_url", REFUSED)
def test_address_that_is_no_panels_stops_the_start(base_url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        endpoint_of(account(base_url))

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("base_url", "plain"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080", True),
        ("https://127.0.0.1", False),
        ("https://localhost", False),
    ],
)
def test_local_stack_may_use_this_machine(base_url: str, plain: bool) -> None:  # noqa: FBT001 - a parametrized value
    endpoint = endpoint_of(account(base_url, loopback_allowed=True))

    assert (endpoint.tls is None) is plain


@pytest.mark.parametrize(
    "base_url", ["http://panel.example", "http://10.0.0.1", "https://10.0.0.1", "https://[fd00::1]"]
)
def test_loopback_setting_allows_nothing_else(base_url: str) -> None:
    with pytest.raises(ConfigurationError):
        endpoint_of(account(base_url, loopback_allowed=True))


def test_unreadable_authorities_stop_the_start(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")

    for ca_file in (empty, tmp_path / "absent.pem"):
        with pytest.raises(ConfigurationError, match="certificates"):
            endpoint_of(account("https://panel.example", ca_file=ca_file))


@pytest.mark.parametrize(("user", "password"), [("a:b", "pw"), ("", "pw"), ("reseller", "")])
def test_user_and_password_must_fit_into_authinfo(user: str, password: str) -> None:
    with pytest.raises(ConfigurationError):
        PanelAccount(base_url="https://panel.example", user=user, password=SecretStr(password))


def resolver(*found: str, loopback_allowed: bool = False) -> PinningResolver:
    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return found

    return PinningResolver(loopback_allowed=loopback_allowed, lookup=lookup)


@pytest.mark.asyncio
async def test_name_resolves_to_the_very_addresses_that_were_checked() -> None:
    found = await resolver("8.8.8.8", "2001:4860:4860::8888").resolve("panel.example", 443)

    assert [each["host"] for each in found] == ["8.8.8.8", "2001:4860:4860::8888"]


@pytest.mark.asyncio
@pytest.mark.parametrize("found", [(), ("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::ffff:169.254.169.254",)])
async def test_name_that_points_inwards_is_not_connected_to(found: tuple[str, ...]) -> None:
    with pytest.raises(OSError, match="not permitted"):
        await resolver(*found).resolve("panel.example", 443)


def test_loopback_is_permitted_only_where_it_is_allowed() -> None:
    for text in ("127.0.0.1", "::1"):
        assert is_permitted(text, loopback_allowed=True)
        assert not is_permitted(text, loopback_allowed=False)
    assert not is_permitted("panel.example", loopback_allowed=True)
    assert not is_permitted("10.0.0.1", loopback_allowed=True)
