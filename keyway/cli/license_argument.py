"""How verbs are told which license is meant: account and number, or whatever a customer has at hand."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import typer

from keyway.cli.refusal import RefusedError
from shared.contracts.identifiers import ACCOUNT_NAME, LICENSE_NUMBER, LicenseId, license_id

if TYPE_CHECKING:
    from shared.database.pool import OwnConnection

NAMED_SHOWN_MAX = 10
KEY_ID_MAX = 9_223_372_036_854_775_807


def license_id_of(text: str) -> LicenseId:
    """Return the license that `text` names in full, such as ka:00481516. Raises `typer.BadParameter`."""
    account, _, number = text.partition(":")
    if not ACCOUNT_NAME.fullmatch(account) or not LICENSE_NUMBER.fullmatch(number):
        raise typer.BadParameter(f"{text!r}: write account and number (up to 10 digits), such as ka:00481516")
    return license_id(account, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseName:
    """What was typed for a license: its id, or something that may belong to a license of any account."""

    text: str
    full: LicenseId | None = None
    key_id: int | None = None
    activation_code: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what `text` may name. Raises `typer.BadParameter` when no license can have that name."""
        from gateway.wire.partner_query import read_address
        from shared.domain.key_details import key_id_in

        if ":" in text:
            return cls(text=text, full=license_id_of(text))
        address, key_id = read_address(text), key_id_in(text)
        if address is None and key_id is None and not LICENSE_NUMBER.fullmatch(text):
            raise typer.BadParameter(
                f"{text!r}: write account and number, such as ka:00481516;"
                " or a number, key id, key number or activation code alone"
            )
        if address is not None and address.key_id is not None:
            key_id = address.key_id
        return cls(
            text=text,
            key_id=key_id if key_id is not None and key_id <= KEY_ID_MAX else None,
            activation_code="" if address is None else address.activation_code or "",
        )

    async def meant(self, connection: "OwnConnection") -> LicenseId:
        """Return the one license of that name. Raises `RefusedError` when there is none, or several."""
        from shared.database.license_queries import licenses_named

        if self.full is not None:
            return self.full
        found = await licenses_named(connection, self.text, self.key_id, self.activation_code)
        if not found:
            raise RefusedError(
                f"nothing is on record for {self.text} in any account: write account and number, such as ka:00481516;"
                " `keyway license list` shows what there is"
            )
        if len(found) > 1:
            raise RefusedError(f"{self.text} may be {', '.join(found[:NAMED_SHOWN_MAX])}: name one of them")
        return found[0]
