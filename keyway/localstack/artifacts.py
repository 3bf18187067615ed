"""Fetching the servers' files with jgo, each checked against the committed `jars.lock` before anything uses it.

The lock names every file with version, size and SHA-256, so nothing is resolved here: jgo's artifact layer downloads
exactly these. (Its `build` would read POMs, mediate versions and fetch a JDK into the home directory to sort the jars;
it is used once, when the lock is made anew: `keyway.localstack.relock`.)
"""

import hashlib
import os
import platform
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from keyway.localstack.processes import LocalStackError

KAFKA_VERSION = "4.3.1"
POSTGRES_VERSION = "18.6.0"
LOCK_FILE = Path(__file__).with_name("jars.lock")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64v8"}  # as the PostgreSQL binaries spell them
DOWNLOADS_AT_ONCE = 6
DOWNLOAD_TRIES = 3
TIMEOUT_SECONDS = 30
OTHER_FETCH_SECONDS = 600.0
UNPACKED = "unpacked"


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file of the lock: what it belongs to, its Maven coordinate, its size and its hash."""

    part: str
    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True, slots=True)
class Cache:
    """The download cache: its folder and the Maven repository to fill it from (None: the public one)."""

    folder: Path
    repository: str | None = None

    @property
    def jars(self) -> Path:
        """Folder of Kafka's class path."""
        return self.folder / f"kafka-{KAFKA_VERSION}"

    @property
    def postgres(self) -> Path:
        """Folder of the unpacked PostgreSQL."""
        return self.folder / f"postgres-{POSTGRES_VERSION}"


def read_lock(lock_file: Path = LOCK_FILE) -> tuple[LockedFile, ...]:
    """Return what the lock names for this machine."""
    machine = MACHINES.get(platform.machine())
    if platform.system() != "Linux" or machine is None:
        raise LocalStackError("the local stack runs on Linux on x86-64 or arm64 only; elsewhere use docker compose up")
    wanted = ("kafka", f"postgres-{machine}")
    return tuple(file for file in parse_lock(lock_file.read_text(encoding="utf-8")) if file.part in wanted)


def parse_lock(text: str) -> list[LockedFile]:
    """Return every entry of a lock's text."""
    entries: list[LockedFile] = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            part, coordinate, size, sha256 = line.split()
            group, artifact, version = coordinate.split(":")
            entries.append(LockedFile(part, group, artifact, version, int(size), sha256))
    return entries


def provide(cache: Cache, locked: Iterable[LockedFile], on_bytes: Callable[[int, int], None]) -> None:
    """Make every locked file present in the cache and verified; unpack PostgreSQL.

    `on_bytes` is told (bytes fetched so far, bytes to fetch) while downloading, from several threads. Raises
    `LocalStackError` when a file cannot be fetched or is not the one that the lock names.
    """
    files = list(locked)
    cache.jars.mkdir(exist_ok=True)
    try:
        with FileLock(cache.folder / "fetch.lock", timeout=OTHER_FETCH_SECONDS):
            missing = [file for file in files if not _is_verified(_place_of(cache, file), file)]
            if missing:
                _download(cache, missing, on_bytes)
            for file in files:
                if file.part != "kafka" and not (cache.postgres / UNPACKED).exists():
                    _unpack_postgres(_place_of(cache, file), cache.postgres)
    except Timeout:
        raise LocalStackError(f"another process holds {cache.folder}/fetch.lock for very long: end it") from None


def class_path(cache: Cache, locked: Iterable[LockedFile]) -> str:
    """Return Kafka's class path: exactly the locked jars, in the lock's order."""
    return ":".join(str(_place_of(cache, file)) for file in locked if file.part == "kafka")


def _place_of(cache: Cache, file: LockedFile) -> Path:
    return (cache.jars if file.part == "kafka" else cache.folder) / file.name


def _is_verified(path: Path, file: LockedFile) -> bool:
    try:
        if path.stat().st_size != file.size:
            return False
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
    except FileNotFoundError:
        return False


def _download(cache: Cache, missing: list[LockedFile], on_bytes: Callable[[int, int], None]) -> None:
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - jgo and requests take 0.4 s that a warm start saves
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - the same

    total = sum(file.size for file in missing)
    fetched = 0

    @contextmanager
    def follow(_name: str, _size: int) -> Generator[Callable[[int], None]]:
        def count(amount: int) -> None:
            nonlocal fetched
            fetched += amount
            on_bytes(min(fetched, total), total)

        yield count

    incoming = cache.folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    context = MavenContext(
        resolver=PythonResolver(progress_callback=follow),
        repo_cache=incoming,
        remote_repos={"named": cache.repository} if cache.repository else {"central": MAVEN_CENTRAL_URL},
        timeout=TIMEOUT_SECONDS,
    )
    on_bytes(0, total)

    def fetch(file: LockedFile) -> None:
        artifact = context.project(file.group, file.artifact).at_version(file.version).artifact()
        _fetch_one(file, artifact.resolve, _place_of(cache, file))

    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        for _ in pool.map(fetch, missing):
            pass
    shutil.rmtree(incoming, ignore_errors=True)


def _fetch_one(file: LockedFile, resolve: Callable[[], Path], place: Path) -> None:
    reason = ""
    for _ in range(DOWNLOAD_TRIES):
        try:
            came = resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's "not found" a RuntimeError
            reason = f"{type(error).__name__}: {error}"
            continue
        if _is_verified(came, file):
            came.replace(place)
            return
        came.unlink()
        reason = f"what came is not the file that jars.lock names (SHA-256 {file.sha256[:16]}...)"
    raise LocalStackError(f"cannot fetch {file.name} ({reason}); a mirror is named by KEYWAY_LOCAL_MAVEN_REPOSITORY")


def _unpack_postgres(archive: Path, folder: Path) -> None:
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(archive) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".txz"))
        with outer.open(inner) as packed, tarfile.open(fileobj=packed, mode="r|xz") as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(fresh, filter="data")
            else:  # Python before 3.11.4; the archive's hash was checked either way
                tar.extractall(fresh)  # noqa: S202 - the content is pinned by jars.lock
    for path in (fresh, *fresh.rglob("*")):
        os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)  # older Pythons take the archive's owners
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)  # the uid that runs PostgreSQL for root must get in, whatever our umask is
    (fresh / UNPACKED).touch()
    fresh.rename(folder)
