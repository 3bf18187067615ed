"""Where the local stack keeps things: one home folder per checkout, with a shared download cache and the state in it.

Standard library and `shared.errors` only: `deploy/bootstrap.py` uses this module before anything is installed.

The home is `.keyway` in the checkout. For root it is a folder of its own below the persistent temporary directory: root
may work in a checkout that nobody else can enter, and the uid that runs PostgreSQL for root must reach its binaries.
"""

import hashlib
import os
import stat
from pathlib import Path

from shared.errors import KeywayError

CHECKOUT = Path(__file__).resolve().parents[2]
PERSISTENT_TEMPORARY = Path("/var/tmp")  # noqa: S108 - made below with an owner check; the name alone is not trusted
STACK = "stack"
WALKABLE = 0o711
PRIVATE = 0o700


class UnsafeFolderError(KeywayError):
    """A folder that should be ours belongs to somebody else or may be written by others."""

    code = "local_stack"


def home_folder(checkout: Path = CHECKOUT) -> Path:
    """Return the home folder of `checkout`, made if missing. Raises `UnsafeFolderError` when it cannot be trusted."""
    return own_folder(*_home(checkout))


def _home(checkout: Path) -> tuple[Path, int]:
    """Return the path of the home folder and its mode."""
    if os.geteuid() != 0:
        return checkout / ".keyway", PRIVATE
    mark = hashlib.sha256(str(checkout).encode()).hexdigest()[:8]
    return PERSISTENT_TEMPORARY / f"keyway-root-{mark}", WALKABLE


def own_folder(path: Path, mode: int) -> Path:
    """Return `path`, made with `mode` if missing. Raises `UnsafeFolderError` unless it is ours alone to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=mode)
        path.chmod(mode)  # mkdir is subject to the umask; this is not
    except FileExistsError:
        _require_own(path)
    return path


def _require_own(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        raise UnsafeFolderError(
            f"{path} exists but is not a folder that only this user may write: remove it or name another"
        )


def cache_folder(named: Path | None = None) -> Path:
    """Return the download cache, shared by every state folder of this checkout; `named` overrides the place."""
    return own_folder(home_folder() / "cache" if named is None else named.absolute(), WALKABLE)


def default_state_folder() -> Path:
    """Return where `keyway up` keeps its data when no `--state-dir` is given."""
    return home_folder() / STACK


def found_state_folder() -> Path:
    """Return the same place without making anything. Raises `UnsafeFolderError` when the home is not ours."""
    home, _ = _home(CHECKOUT)
    if home.exists():
        _require_own(home)
    return home / STACK


def walkable_by_others(path: Path) -> bool:
    """Whether a foreign uid can reach `path`: every folder on the way has the execute bit for others."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))
