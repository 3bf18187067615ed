"""The signer of a running worker: follows its key file, so that a rotation needs no restart.

A new active key signs only after its public half is published: nobody may meet a body that they cannot check. While
the file is unreadable or the publication fails the former key goes on signing; that is logged, once per cause.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import structlog

from shared.clock import SystemClock
from shared.domain.body import Claims
from shared.errors import ConfigurationError, UnavailableError
from shared.security.license_body import JwsSigner
from shared.security.signing_keys import PublicKey, require_key_file

LOOK_SECONDS = 2.0
KNOWN_EVERYWHERE_SECONDS = 6.0
"""Gateways keep the published key set for five seconds: a new key signs only when all of them must know it."""

_log = structlog.get_logger("keyway.signing_keys")

_Stamp = tuple[int, int, int]


class PublicKeyRegistry(Protocol):
    """Where public keys are made known to everybody, for ever."""

    async def publish(self, keys: Sequence[PublicKey]) -> None:
        """Make `keys` known; those already known stay. Raises `UnavailableError`."""
        ...


class WatchedSigner:
    """Signs with the active key of a file; made by `load_signer`."""

    def __init__(self, file: Path, registry: PublicKeyRegistry, clock: SystemClock) -> None:
        self._file = file
        self._registry = registry
        self._clock = clock
        self._signer: JwsSigner | None = None
        self._taken: _Stamp | None = None
        self._told = ""

    def sign(self, claims: Claims) -> bytes:
        """Return the license body for `claims`."""
        assert self._signer is not None, "load first"  # noqa: S101 - `load_signer` is the only way to get one
        return self._signer.sign(claims)

    async def load(self) -> None:
        """Take the active key of the file. Raises `ConfigurationError` and `UnavailableError`; then nothing changes."""
        stamp = self._stamp()
        ring = require_key_file(self._file)
        await self._registry.publish(ring.public_keys)
        if self._signer is not None:
            await self._clock.sleep(KNOWN_EVERYWHERE_SECONDS)
        self._signer = JwsSigner(ring.active)
        self._taken = stamp
        self._told = ""
        _log.info("signing_key.taken", kid=ring.active.public.kid)

    async def watch(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take the active key if the file has changed."""
        if self._stamp() == self._taken:
            return
        try:
            await self.load()
        except (ConfigurationError, UnavailableError) as error:
            if str(error) != self._told:
                self._told = str(error)
                _log.warning("signing_key.not_taken", code=error.code, reason=str(error))

    def _stamp(self) -> _Stamp | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


async def load_signer(file: Path, registry: PublicKeyRegistry, clock: SystemClock) -> WatchedSigner:
    """Return a signer with the active key of `file`; run its `watch` beside the work.

    Raises `ConfigurationError` when the file is missing, readable by others or no key file, and `UnavailableError`
    when the public keys cannot be published.
    """
    signer = WatchedSigner(file, registry, clock)
    await signer.load()
    return signer
