"""Where the panel stands, and proof that it stands there: address rules, name resolution, TLS.

Only the operator's base address is ever called. A name is resolved once per connection, every address it has must be
permitted, and the connection goes to one of those very addresses: a name cannot point inwards later.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from shared.errors import ConfigurationError
from workers.provider.isplicense.account import PanelAccount

PANEL_PATH = "/manager/billmgr"
HOST_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
NAT64 = IPv6Network("64:ff9b::/96")

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port -> addresses as text; raises `OSError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The one address that is called."""

    url: URL
    tls: ssl.SSLContext | None
    """None for plain http on loopback."""
    loopback_allowed: bool


def endpoint_of(account: PanelAccount) -> Endpoint:
    """Return the endpoint of the account (docs/protocols/isplicense.md 1.1). Raises `ConfigurationError`."""
    url = _checked_url(account.base_url, loopback_allowed=account.loopback_allowed)
    tls = _tls_context(account.ca_file) if url.scheme == "https" else None
    return Endpoint(url=url, tls=tls, loopback_allowed=account.loopback_allowed)


def is_permitted(text: str, *, loopback_allowed: bool) -> bool:
    """Whether a connection may go to the address: a global one, or this machine where that is allowed."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.scope_id:
        return False
    if loopback_allowed and address.is_loopback:
        return True
    inner = _embedded(address)
    return all(each.is_global and not each.is_multicast for each in (address, inner) if each is not None)


class PinningResolver(AbstractResolver):
    """Resolves a name to permitted addresses only; one that is not spoils the whole answer."""

    def __init__(self, *, loopback_allowed: bool, lookup: Lookup | None = None) -> None:
        self._loopback_allowed = loopback_allowed
        self._lookup = system_lookup if lookup is None else lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`. Raises `OSError` for none, or for one that is not permitted."""
        found = await self._lookup(host, port)
        if not found or not all(is_permitted(text, loopback_allowed=self._loopback_allowed) for text in found):
            raise OSError("the name has no address, or one that is not permitted")
        return [
            ResolveResult(
                hostname=host,
                host=text,
                port=port,
                family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for text in found
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in text else socket.AF_INET)
        ]

    async def close(self) -> None:
        """Nothing to release."""


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """Return the addresses that the operating system knows for `host`. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _checked_url(text: str, *, loopback_allowed: bool) -> URL:
    if not text.isascii() or any(character.isspace() or not character.isprintable() for character in text):
        raise ConfigurationError("the panel address has characters outside ASCII or spaces: write IDN in punycode")
    if "%" in text or ".." in text:
        raise ConfigurationError("the panel address holds `%` or `..`: write it plainly")
    try:
        given = URL(text)
        port = given.port
    except ValueError:
        raise ConfigurationError("the panel address is no URL: write https://host[:port][/path]") from None
    host = (given.raw_host or "").lower()
    if given.scheme not in ("https", "http") or port is None or given.raw_user is not None:
        raise ConfigurationError("the panel address must be https://host[:port][/path], without user or password")
    if not _is_host(host, loopback_allowed=loopback_allowed):
        raise ConfigurationError(f"the panel host {host!r} is no name with a domain and no permitted address")
    if given.scheme == "http" and not (loopback_allowed and _is_this_machine(host)):
        raise ConfigurationError("the panel address is plain http: only https is allowed outside this machine")
    path = given.raw_path.rstrip("/")
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)*", path):
        raise ConfigurationError("the path of the panel address has characters that it should not have")
    return (
        given.with_query(None)
        .with_fragment(None)
        .with_path(path if path.endswith("/billmgr") else path + PANEL_PATH, encoded=True)
    )


def _is_host(host: str, *, loopback_allowed: bool) -> bool:
    """A name has a domain whose last label begins with a letter: `2130706433` and `0x7f.1` are disguised addresses."""
    if host == "localhost":
        return loopback_allowed
    return HOST_NAME.fullmatch(host) is not None or is_permitted(host, loopback_allowed=loopback_allowed)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address carries, if any: mapped, 6to4 or NAT64."""
    if not isinstance(address, IPv6Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise ConfigurationError(f"{ca_file} holds no readable certificates: {type(error).__name__}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
