"""The operation fingerprint: how a repeated request is recognized when the protocol has no request id.

docs/protocols/isv-endpoint.md 8.2. In: account, action, number, product, model, test flag, start, expiry, activation
data, after normalization (absent test flag = real order; an absent date stays absent). Left out on purpose: the
purchase date (moves on a retry), the subscription date, the registrant name, the previous body, unknown fields.
"""

from hashlib import sha256

from shared.contracts.commands import Operation
from shared.contracts.identifiers import Fingerprint

SEPARATOR = "\x1f"
"""A control character that no field may hold, except activation data, which stands last."""


def fingerprint_of(command: Operation) -> Fingerprint:
    """Return the 32-byte fingerprint of `command`."""
    parts = (
        command.account,
        command.type,
        command.number,
        command.product,
        command.model,
        "Y" if command.test else "N",
        "" if command.start_on is None else command.start_on.isoformat(),
        "" if command.expires_on is None else command.expires_on.isoformat(),
        "" if command.activation_data is None else command.activation_data,
    )
    return Fingerprint(sha256(SEPARATOR.join(parts).encode()).digest())
