"""`ACTIVATION_DATA` of a provider product, read: the wire form of the customer's server (isv-endpoint 4.5).

Local products keep theirs unread; only a product that is ordered upstream says what must be in it.
"""

import orjson

from shared.contracts.commands import LicenseCommand, PurchaseLicense, RenewLicense, UpgradeLicense
from shared.domain.catalog import Catalog, Provider
from shared.domain.provider_operation import address_of
from shared.domain.provisioning import ServerData


def read_server_data(text: str) -> ServerData | None:
    """Return the `ACTIVATION_DATA` of a provider product: a bare address, or a JSON object; None for anything else.

    docs/protocols/isv-endpoint.md 4.5.
    """
    address = address_of(text)
    if address is not None:
        return ServerData(address=str(address))
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(members, dict):
        return None
    ip, label, nodes, parent = (members.get(name) for name in ("ip", "licname", "nodes", "parent"))
    canonical = address_of(ip) if isinstance(ip, str) else None
    if (ip is not None and canonical is None) or not isinstance(label, str | None):
        return None
    if not isinstance(nodes, int | None) or isinstance(nodes, bool) or not isinstance(parent, str | None):
        return None
    return ServerData(
        address=None if canonical is None else str(canonical), label=label or "", nodes=nodes, parent_number=parent
    )


def server_data_of(command: LicenseCommand, catalog: Catalog) -> ServerData | None:
    """Return the server data that a command for a provider product brings, None when it has none."""
    if not isinstance(command, PurchaseLicense | RenewLicense | UpgradeLicense) or command.activation_data is None:
        return None
    listed = catalog.find(command.product)
    if listed is None or listed.product.provider is Provider.LOCAL:
        return None
    return read_server_data(command.activation_data)
