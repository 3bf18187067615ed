"""From a bare Python to a running command: `bootstrap.py ENVIRONMENT COMMAND ...`, which all of the Makefile calls.

Finds or installs the pinned uv, fills a virtual environment from requirements/ENVIRONMENT.txt (hashes checked) if that
changed, and becomes the command. Standard library only, in a syntax that older Pythons can read far enough to refuse.
Everything is written to the checkout's home folder, see `keyway/localstack/folders.py`.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
REQUIREMENTS = CHECKOUT / "requirements"
UV_LOCK = REQUIREMENTS / "uv.txt"
NEEDS_MENDING = 3
PR_SET_PDEATHSIG = 1
UV_READS = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE"}
TOO_OLD = """\
Keyway needs Python 3.11 or later; this is {}. On Debian or Ubuntu:
  apt-get install -y python3 python3-pip
Or name another one: make PYTHON=python3.11 ..."""
NO_PIP = """\
This Python has neither pip nor venv. On Debian or Ubuntu this mends it:
  apt-get install -y python3-pip"""


def main() -> None:
    """Become the command, inside its environment."""
    if sys.version_info < (3, 11):  # noqa: UP036 - here is where older ones are told
        mend(TOO_OLD.format(sys.version.split()[0]))
    if "MAKELEVEL" in os.environ:  # a killed make cannot pass a signal on: we are to stop when it is gone
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    sys.path.insert(0, str(CHECKOUT))
    from keyway.localstack.folders import home_folder  # noqa: PLC0415 - needs the path and the version

    home = home_folder(CHECKOUT)
    name, command, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    with (home / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = filled_environment(home, name)
    os.environ.setdefault("UV_CACHE_DIR", str(home / "uv"))
    folders = [str(environment / "bin"), os.environ.get("PATH", os.defpath), str(home / f"uv-{uv_version()}" / "bin")]
    os.environ["PATH"] = os.pathsep.join(folders)
    os.chdir(CHECKOUT)
    os.execvp(command, [command, *arguments])  # noqa: S606 - no shell on purpose


def filled_environment(home: Path, name: str) -> Path:
    """Return the virtual environment, filled anew when the locked requirements, the project or Python changed."""
    environment = home / f"venv-{name}"
    stamp = environment / "stamp"
    locked, build = REQUIREMENTS / f"{name}.txt", REQUIREMENTS / "build.txt"
    inputs = [path.read_bytes() for path in (locked, build, CHECKOUT / "pyproject.toml")]
    wanted = hashlib.sha256(b"\0".join([*inputs, sys.version.encode()])).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        uv = find_uv(home)
        settings = uv_settings(home)
        into = ["--python", str(environment / "bin" / "python")]
        say(f"installing what requirements/{name}.txt names")
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], settings)
        run([uv, "pip", "sync", "--quiet", "--require-hashes", *into, str(locked)], settings)
        ours = ["--no-deps", "--build-constraints", str(build), "--editable", str(CHECKOUT)]
        run([uv, "pip", "install", "--quiet", *into, *ours], settings)
        stamp.write_text(wanted)
    return environment


def find_uv(home: Path) -> str:
    """Return the pinned uv: from PATH, from our cache, or fetched into it by pip, the way pip is configured."""
    version = uv_version()
    cached = home / f"uv-{version}"
    for candidate in (shutil.which("uv"), shutil.which("uv", path=str(cached / "bin"))):
        if candidate and version.encode() in subprocess.check_output([candidate, "--version"]).split():
            return candidate
    say(f"installing uv {version}")
    fetch = ["install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--root-user-action=ignore"]
    into = ["--require-hashes", "--no-deps", "--upgrade", "--target", str(cached), "--requirement", str(UV_LOCK)]
    run([python_with_pip(home), "-m", "pip", *fetch, *into])
    return str(cached / "bin" / "uv")


def uv_version() -> str:
    """Return the pinned version of uv."""
    return UV_LOCK.read_text().partition("uv==")[2].split()[0]


def python_with_pip(home: Path) -> str:
    """Return a Python that has pip: this one, or one in a virtual environment made for that."""
    if importlib.util.find_spec("pip") is not None:
        return sys.executable
    if importlib.util.find_spec("ensurepip") is None:
        mend(NO_PIP)
    made = home / "venv-pip"
    if not (made / "bin" / "pip").exists():
        run([sys.executable, "-m", "venv", "--clear", str(made)])
    return str(made / "bin" / "python")


def uv_settings(home: Path) -> dict[str, str]:
    """Return uv's environment: its cache in our home, and pip's index and certificates unless uv has its own."""
    settings = {"UV_CACHE_DIR": str(home / "uv"), "UV_PYTHON_DOWNLOADS": "never"}
    ask = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()
    for key, value in re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE):
        if key in UV_READS:
            settings[UV_READS[key]] = value.replace("\\n", " ").strip()
    return {**settings, **os.environ}


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a step; when it fails, its own message stands and its status is ours."""
    status = subprocess.call(command, env=environment)
    if status != 0:
        sys.exit(status)


def say(text: str) -> None:
    """Tell what takes time now."""
    print(text, file=sys.stderr, flush=True)


def mend(text: str) -> None:
    """Say what is missing and how to mend it, and exit."""
    say(text)
    sys.exit(NEEDS_MENDING)


if __name__ == "__main__":
    main()
