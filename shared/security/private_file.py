"""Files that only their owner may read: written whole or not at all, refused when others could have read them."""

import os
import secrets
import stat
from pathlib import Path

from shared.errors import ConfigurationError

PRIVATE = 0o600
FILE_LIMIT_BYTES = 1_048_576


def write_private_file(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, mode 0600, in one step; a crash leaves the old file or the new one.

    Raises `ConfigurationError` when the folder is not writable.
    """
    target = path.resolve()
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        _write_new(new, content)
        new.replace(target)
        _make_durable(target.parent)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


def read_private_file(path: Path) -> bytes | None:
    """Return the content of `path`, None when there is no such file.

    Raises `ConfigurationError` when it cannot be read, is too large, or gives others access. A file of another owner
    may be readable for a group, as mounted secrets are.
    """
    try:
        with path.open("rb") as file:
            _require_private(path, os.fstat(file.fileno()))
            content = file.read(FILE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_LIMIT_BYTES:
        raise ConfigurationError(f"{path} is larger than {FILE_LIMIT_BYTES} bytes: this is not one of our files")
    return content


def _require_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is not a file")
    ours = found.st_uid == os.geteuid()
    forbidden = stat.S_IRWXG | stat.S_IRWXO if ours else stat.S_IWGRP | stat.S_IRWXO
    if found.st_mode & forbidden:
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigurationError(
            f"{path} has mode {mode:04o}, so others can get at its secrets: chmod 600 it, and change the secrets if "
            "others may have read them"
        )


def _write_new(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
