"""The file that makes the sandbox remember: checked lines, appended in one write each and synced in groups.

A line is `<crc32 of the payload, 8 hex digits> <payload>\\n`. A kill at any moment leaves whole lines and at most one
torn one at the end, which is cut off at the next start; damage anywhere else stops the start: money is in here.
"""

import asyncio
import fcntl
import os
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

from shared.errors import ConfigurationError

_PRIVATE = 0o600
_CHECK_LENGTH = 9


class EffectLog:
    """One append-only file with one owner.

    What `append` wrote outlives a killed process, what `durable` waited for outlives a crashed machine.
    """

    def __init__(self, folder: Path) -> None:
        """Open the log in `folder`. Raises `ConfigurationError` when another process has it or it cannot be written."""
        self._folder = folder
        self._path = folder / "state.log"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _PRIVATE)
        except OSError as error:
            raise ConfigurationError(f"the state folder {folder} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            os.close(self._lock)
            raise ConfigurationError(
                f"the state folder {folder} belongs to a running sandbox: stop it or name another --state-dir"
            ) from None
        self._syncing = asyncio.Lock()
        self._effects = 0
        self._appended = 0
        self._synced = 0
        self.size_bytes = 0

    def replay(self) -> list[bytes]:
        """Return the payloads of all lines; a torn last one is cut off. Raises `ConfigurationError` on other damage."""
        content = self._path.read_bytes()
        payloads: list[bytes] = []
        end = 0
        lines = content.split(b"\n")
        for index, line in enumerate(lines):
            payload = line[_CHECK_LENGTH:]
            if index < len(lines) - 1 and line[:_CHECK_LENGTH] == _check(payload):
                payloads.append(payload)
                end += len(line) + 1
            elif index < len(lines) - 2:
                raise ConfigurationError(
                    f"line {index + 1} of {self._path} is damaged: move the folder away to start with an empty sandbox"
                )
            else:
                break
        os.ftruncate(self._descriptor, end)
        self.size_bytes = end
        return payloads

    def append(self, payload: bytes, *, is_effect: bool) -> None:
        """Write one line. An effect is waited for by `durable`. Raises `OSError` and leaves nothing when it cannot."""
        line = _line(payload)
        try:
            _write_whole(self._descriptor, line)
        except OSError:
            os.ftruncate(self._descriptor, self.size_bytes)
            raise
        self.size_bytes += len(line)
        self._appended += 1
        if is_effect:
            self._effects = self._appended

    async def durable(self) -> None:
        """Return once every effect appended so far is on disk; callers that wait together share one sync."""
        target = self._effects
        if self._synced >= target:
            return
        async with self._syncing:
            if self._synced < target:
                reached = self._appended
                await asyncio.to_thread(os.fdatasync, self._descriptor)
                self._synced = max(self._synced, reached)

    def restart(self, payloads: Iterable[bytes]) -> None:
        """Begin a new log with `payloads`. A kill cannot split it, but a crashed machine may bring the old log back."""
        self._replace(b"".join(map(_line, payloads)), is_durable=False)

    def compact(self, payloads: Iterable[bytes]) -> None:
        """Replace the log by `payloads`, on disk, in one step that nothing can split."""
        self._replace(b"".join(map(_line, payloads)), is_durable=True)
        self._synced = self._appended

    def _replace(self, content: bytes, *, is_durable: bool) -> None:
        fresh = self._folder / "state.log.new"
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, _PRIVATE)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content)
            if is_durable:
                os.fdatasync(descriptor)
            fresh.rename(self._path)
            if is_durable:
                self._sync_folder()
            old = os.dup(self._descriptor)
            # The number stays the same, so that a sync under way in its thread keeps a valid descriptor.
            os.dup2(descriptor, self._descriptor, inheritable=False)
        finally:
            os.close(descriptor)
        self.size_bytes = len(content)
        # The last close frees the old file's pages, which takes long when there are many.
        threading.Thread(target=os.close, args=(old,), name="sandbox-log-close").start()

    def close(self) -> None:
        """Sync what is left and give the folder free."""
        os.fdatasync(self._descriptor)
        os.close(self._descriptor)
        os.close(self._lock)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_whole(descriptor: int, content: bytes) -> None:
    written = os.write(descriptor, content)
    if written != len(content):
        raise OSError(f"only {written} of {len(content)} bytes fitted on the disk")


def _check(payload: bytes) -> bytes:
    return b"%08x " % zlib.crc32(payload)


def _line(payload: bytes) -> bytes:
    return _check(payload) + payload + b"\n"
