"""Making every lock anew (`make lock`): requirements by uv, `jars.lock` by jgo; a developer reviews the difference.

Only this resolves versions. Neither kind of lock holds an address. Kafka's logging binding is added apart from Kafka,
or the two would upset each other's versions; only its own jar is taken.
"""

import hashlib
import subprocess
import tempfile
import tomllib
from pathlib import Path

from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext, PythonResolver

from keyway.localstack.artifacts import KAFKA_VERSION, LOCK_FILE, MACHINES, POSTGRES_VERSION
from keyway.localstack.folders import CHECKOUT

UV = "uv==0.13.9"
LOG4J_VERSION = "2.25.4"  # the one Kafka carries
HEADER = "# Every file of the local stack's servers: part, Maven coordinate, size, SHA-256. Made by `make lock`.\n"
COMPILE = (
    "uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--generate-hashes", "--no-emit-index-url",
    "--no-annotate", "--python-version", "3.11", "--custom-compile-command", "make lock",
)  # fmt: skip
GROUPS: dict[str, tuple[str, ...]] = {"runtime": (), "local": ("local",), "dev": ("local", "dev")}


def main() -> None:
    """Lock the Python packages, then the servers."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, groups in GROUPS.items():
        chosen = [part for group in groups for part in ("--group", group)]
        _compile(["pyproject.toml", *chosen], name)
    _compile(["-"], "build", "\n".join(project["build-system"]["requires"]))
    _compile(["-"], "uv", UV)
    lock_servers()


def lock_servers() -> None:
    """Resolve, download and hash what the servers need, and write the lock."""
    with tempfile.TemporaryDirectory() as folder:
        resolver = PythonResolver()
        context = MavenContext(resolver=resolver, repo_cache=Path(folder), remote_repos={"central": MAVEN_CENTRAL_URL})
        kafka = context.create_dependency(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}")
        _, nodes = resolver.get_dependency_list([kafka])
        jars = [kafka.artifact, *(node.dep.artifact for node in nodes if node.dep.scope in ("compile", "runtime"))]
        jars.append(
            context.project("org.apache.logging.log4j", "log4j-slf4j-impl").at_version(LOG4J_VERSION).artifact()
        )
        lines = {_line("kafka", artifact) for artifact in jars}
        for machine in MACHINES.values():
            name = f"embedded-postgres-binaries-linux-{machine}"
            artifact = context.project("io.zonky.test.postgres", name).at_version(POSTGRES_VERSION).artifact()
            lines.add(_line(f"postgres-{machine}", artifact))
        LOCK_FILE.write_text(HEADER + "".join(sorted(lines)), encoding="utf-8")


def _compile(sources: list[str], name: str, given: str = "") -> None:
    target = CHECKOUT / "requirements" / f"{name}.txt"
    subprocess.run([*COMPILE, *sources, "-o", str(target)], cwd=CHECKOUT, input=given, text=True, check=True)


def _line(part: str, artifact: Artifact) -> str:
    content = artifact.resolve().read_bytes()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return f"{part} {coordinate} {len(content)} {hashlib.sha256(content).hexdigest()}\n"


if __name__ == "__main__":
    main()
