"""What both servers need to run: verified files in the cache and a Java."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyway.localstack.artifacts import Cache, class_path, provide, read_lock
from keyway.localstack.folders import cache_folder, walkable_by_others
from keyway.localstack.java import Java, find_java
from keyway.localstack.processes import UNPRIVILEGED_UID, LocalStackError
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Installation:
    """Where everything is: the cache, PostgreSQL's unpacked binaries, Kafka's class path and the Java for it."""

    cache: Path
    binaries: Path
    class_path: str
    java: Java


def install(settings: Settings, on_bytes: Callable[[int, int], None]) -> Installation:
    """Fetch what is missing, verify everything and return it. Raises `KeywayError` when that fails.

    `on_bytes` is told (bytes fetched, bytes to fetch) while downloading, from several threads.
    """
    folder = cache_folder(settings.local_cache_dir)
    if os.geteuid() == 0 and not walkable_by_others(folder):
        raise LocalStackError(
            f"{folder} cannot be entered by uid {UNPRIVILEGED_UID}, which runs PostgreSQL when you are root: "
            "name a KEYWAY_LOCAL_CACHE_DIR that everybody can enter, such as a folder in /var/tmp"
        )
    java = find_java(settings.local_java_home)
    cache = Cache(folder, settings.local_maven_repository.rstrip("/") or None)
    locked = read_lock()
    provide(cache, locked, on_bytes)
    return Installation(folder, cache.postgres, class_path(cache, locked), java)
