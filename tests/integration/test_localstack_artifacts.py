"""Fetching: only what the lock names is ever used, whatever a mirror or a disk hands out."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from keyway.localstack.artifacts import Cache, LockedFile, class_path, provide
from keyway.localstack.folders import UnsafeFolderError, own_folder, walkable_by_others
from keyway.localstack.java import find_java
from keyway.localstack.processes import LocalStackError
from tests.stack import report_download

JAR = b"a jar's bytes" * 10_000


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        del format, args


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A Maven repository on loopback: its folder and its address."""
    folder = tmp_path / "repository"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, repository: tuple[Path, str]) -> Cache:
    folder = tmp_path / "cache"
    folder.mkdir()
    return Cache(folder, repository[1])


def publish(repository: Path, name: str, content: bytes, part: str = "kafka") -> LockedFile:
    """Put a file into the repository and return the lock's entry for it."""
    place = repository / "org" / "example" / name / "1.0" / f"{name}-1.0.jar"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return LockedFile(part, "org.example", name, "1.0", len(content), hashlib.sha256(content).hexdigest())


def packed_postgres() -> bytes:
    """Return an archive shaped like the real one: a zip around a tar."""
    packed, tar_bytes = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w:xz") as tar:
        entry = tarfile.TarInfo("bin/postgres")
        entry.size, entry.mode = 4, 0o755
        tar.addfile(entry, io.BytesIO(b"\x7fELF"))
    with zipfile.ZipFile(packed, "w") as outer:
        outer.writestr("META-INF/MANIFEST.MF", "")
        outer.writestr("postgres-linux-x86_64.txz", tar_bytes.getvalue())
    return packed.getvalue()


def test_files_come_verified_with_progress_and_are_not_fetched_twice(
    repository: tuple[Path, str], cache: Cache
) -> None:
    files = [publish(repository[0], name, JAR + name.encode()) for name in ("one", "two")]
    told: list[tuple[int, int]] = []

    provide(cache, files, lambda fetched, total: told.append((fetched, total)))

    total = sum(file.size for file in files)
    assert told[0] == (0, total)
    assert max(told) == (total, total)
    assert class_path(cache, files) == f"{cache.jars}/one-1.0.jar:{cache.jars}/two-1.0.jar"
    assert (cache.jars / "two-1.0.jar").read_bytes() == JAR + b"two"
    provide(Cache(cache.folder, "http://127.0.0.1:1"), files, lambda *_: pytest.fail("nothing was missing"))


def test_other_bytes_than_locked_are_refused_and_never_placed(repository: tuple[Path, str], cache: Cache) -> None:
    locked = publish(repository[0], "one", JAR)
    publish(repository[0], "one", JAR[:-1] + b"!")

    with pytest.raises(LocalStackError, match=r"cannot fetch one-1\.0\.jar \(what came is not the file that"):
        provide(cache, [locked], report_download)
    assert not (cache.jars / "one-1.0.jar").exists()


def test_file_damaged_in_the_cache_is_fetched_again(repository: tuple[Path, str], cache: Cache) -> None:
    locked = publish(repository[0], "one", JAR)
    provide(cache, [locked], report_download)
    (cache.jars / "one-1.0.jar").write_bytes(JAR[:-1] + b"!")

    provide(cache, [locked], report_download)

    assert (cache.jars / "one-1.0.jar").read_bytes() == JAR


def test_unreachable_repository_is_named_with_the_way_out(cache: Cache) -> None:
    locked = LockedFile("kafka", "org.example", "one", "1.0", 1, "0" * 64)

    with pytest.raises(LocalStackError, match="KEYWAY_LOCAL_MAVEN_REPOSITORY"):
        provide(Cache(cache.folder, "http://127.0.0.1:1"), [locked], report_download)


def test_postgres_is_unpacked_so_that_a_foreign_uid_can_enter(repository: tuple[Path, str], cache: Cache) -> None:
    locked = publish(repository[0], "postgres", packed_postgres(), "postgres-amd64")
    before = os.umask(0o077)
    try:
        provide(cache, [locked], report_download)
    finally:
        os.umask(before)

    program = cache.postgres / "bin" / "postgres"
    assert program.read_bytes() == b"\x7fELF"
    assert program.stat().st_mode & 0o777 == 0o755
    assert program.parent.stat().st_mode & 0o777 == cache.postgres.stat().st_mode & 0o777 == 0o755


def test_folder_that_others_may_write_or_that_is_a_link_is_not_trusted(tmp_path: Path) -> None:
    ours = own_folder(tmp_path / "ours", 0o711)
    assert own_folder(ours, 0o711) == ours
    assert ours.stat().st_mode & 0o777 == 0o711
    ours.chmod(0o777)
    with pytest.raises(UnsafeFolderError):
        own_folder(ours, 0o711)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafeFolderError):
        own_folder(tmp_path / "link", 0o711)


def test_closed_folder_on_the_way_is_noticed(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    assert not walkable_by_others(inner)


def test_named_java_must_be_one_and_the_wheel_is_found_without_a_name(tmp_path: Path) -> None:
    assert find_java().major >= 25
    with pytest.raises(LocalStackError, match="holds no Java 17 or later"):
        find_java(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(0o755)
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="11.0.2"\n')
    with pytest.raises(LocalStackError):
        find_java(tmp_path)
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="17.0.15"\n')
    assert find_java(tmp_path).major == 17
