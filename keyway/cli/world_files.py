"""Names of the files by which the local stack remembers its world, all in its state folder."""

from pathlib import Path


def secrets_file(state: Path) -> Path:
    """JSON, account -> secret; mode 0600."""
    return state / "secrets.json"


def signing_keys_file(state: Path) -> Path:
    """Private signing keys; mode 0600."""
    return state / "signing-keys.json"


def clock_offset_file(state: Path) -> Path:
    """Seconds by which the business clock is moved (see `shared.clock`)."""
    return state / "clock-offset"


def panel_password_file(state: Path) -> Path:
    """Password of the sandbox's panel user; mode 0600."""
    return state / "panel-password"


def provider_accounts_file(state: Path) -> Path:
    """JSON, the further provider accounts that the stack was started with, logins included; mode 0600."""
    return state / "provider-accounts.json"


def example_catalog_file(state: Path) -> Path:
    """Version under which the example catalog was loaded last: a newer one is the user's own."""
    return state / "example-catalog-version"
