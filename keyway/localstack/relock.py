"""Making `jars.lock` anew (`make lock`): the only place that resolves versions; a developer reviews the difference.

The logging binding is added apart from Kafka, or the two would upset each other's versions; only its own jar is taken.
"""

import hashlib
import tempfile
from pathlib import Path

from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext, PythonResolver

from keyway.localstack.artifacts import KAFKA_VERSION, LOCK_FILE, MACHINES, POSTGRES_VERSION

LOG4J_VERSION = "2.25.4"  # the one Kafka carries
HEADER = """\
# Every file of the local stack's servers: part, Maven coordinate, size, SHA-256. Made by `make lock`.
"""


def main() -> None:
    """Resolve, download and hash everything, and write the lock."""
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


def _line(part: str, artifact: Artifact) -> str:
    content = artifact.resolve().read_bytes()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return f"{part} {coordinate} {len(content)} {hashlib.sha256(content).hexdigest()}\n"


if __name__ == "__main__":
    main()
