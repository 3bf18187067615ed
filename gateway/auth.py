"""Who is calling: the `Authorization` header becomes the principal of the role that a route wants, or a refusal.

A header that was verified lately is recognized without waiting; only the others cost a hash and a look into the
database (docs/protocols/isv-endpoint.md 3: no usable header is 401; a wrong pair and another role are 403).
"""

from collections.abc import Sequence
from typing import Protocol, assert_never

from gateway.circuit import Circuit, Machine
from gateway.problems import Refused
from shared.errors import UnavailableError
from shared.security.accounts import Principal, Role
from shared.security.basic import parse_basic
from shared.security.credentials import AuthenticationFailure
from shared.telemetry.metrics import GatewayMetrics


class CredentialCheck(Protocol):
    """What is asked of `shared.security.credentials.Authenticator`."""

    def lookup(self, authorization: str) -> Principal | None:
        """Return the principal of a header verified lately."""
        ...

    async def authenticate(self, authorization: str | None) -> Principal | AuthenticationFailure:
        """Return who sent the header. Raises `UnavailableError`."""
        ...


class Doorkeeper:
    """Lets accounts of one role in."""

    __slots__ = ("_check", "_circuit", "_metrics", "_role", "_wrong_pair")

    def __init__(
        self,
        check: CredentialCheck,
        *,
        role: Role,
        circuit: Circuit,
        metrics: GatewayMetrics,
        wrong_pair: Refused = Refused.FORBIDDEN,
    ) -> None:
        """`circuit` tells whether asking the database for an unknown header is of any use now.

        `wrong_pair` is the answer to credentials that are nobody's: protocols differ there.
        """
        self._check = check
        self._role = role
        self._circuit = circuit
        self._metrics = metrics
        self._wrong_pair = wrong_pair

    def recognize(self, headers: Sequence[str]) -> Principal | None:
        """Return the principal of the only `Authorization` header when it is known and of our role, else None."""
        if len(headers) != 1:
            return None
        principal = self._check.lookup(headers[0])
        if principal is None or principal.role is not self._role:
            return None
        self._metrics.credential_checks["cached"].inc()
        return principal

    async def admit(self, headers: Sequence[str]) -> Principal | Refused:
        """Return who sent the `Authorization` headers, or why the request ends here. Several are as bad as none."""
        if len(headers) != 1 or parse_basic(headers[0]) is None:
            return Refused.UNAUTHENTICATED
        if self._circuit.is_down(Machine.DATABASE):
            return Refused.LOGIN_BUSY
        try:
            found = await self._check.authenticate(headers[0])
        except UnavailableError:
            found = AuthenticationFailure.BUSY
        match found:
            case Principal():
                self._metrics.credential_checks["verified"].inc()
                return found if found.role is self._role else Refused.FORBIDDEN
            case AuthenticationFailure.MISSING:
                return Refused.UNAUTHENTICATED
            case AuthenticationFailure.REFUSED:
                self._metrics.credential_checks["wrong"].inc()
                return self._wrong_pair
            case AuthenticationFailure.BUSY:
                self._metrics.credential_checks["overloaded"].inc()
                return Refused.LOGIN_BUSY
            case _:
                assert_never(found)
