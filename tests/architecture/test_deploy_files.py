"""What cannot be run where tests run is guarded as text: compose, image, make, the properties both Kafkas share."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyway.localstack.artifacts import KAFKA_VERSION, LOCK_FILE, POSTGRES_VERSION, parse_lock
from keyway.localstack.roles import WORKER_ROLES
from shared.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
EXAMPLE = dict(
    line.split("=", 1)
    for line in (ROOT / "deploy" / "env" / ".env.example").read_text().splitlines()
    if line and not line.startswith("#")
)
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::[-?]([^}]*))?\}")
OURS = {
    name: service
    for name, service in SERVICES.items()
    if service["image"].startswith("keyway:") and name != "sandbox"  # stands for somebody else's machine
}
ONE_SHOTS = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
PINNED = re.compile(r"^[a-z0-9/.-]+(:[0-9][A-Za-z0-9.-]*(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$")


def filled(value: str) -> str:
    """Return a compose value as it is after the example file was filled in."""
    return VARIABLE.sub(lambda found: EXAMPLE.get(found[1]) or "filled", value)


@pytest.mark.parametrize("image", [service["image"] for service in SERVICES.values()])
def test_every_image_is_pinned(image: str) -> None:
    assert PINNED.match(image), image
    assert PINNED.match("postgres:latest") is None


def test_servers_are_the_versions_of_the_local_stack() -> None:
    assert SERVICES["kafka"]["image"].startswith(f"apache/kafka:{KAFKA_VERSION}")
    assert SERVICES["postgres"]["image"].startswith(f"postgres:{POSTGRES_VERSION.removesuffix('.0')}-")
    assert "KAFKA_" not in str(SERVICES["kafka"].get("environment", "")), "a file or variables, never both"
    mounted = SERVICES["kafka"]["volumes"][0].split(":")[0]
    assert (ROOT / mounted).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_probed_or_ends_by_itself_and_may_be_scaled(name: str) -> None:
    service = SERVICES[name]
    assert (name in ONE_SHOTS) != ("healthcheck" in service)
    assert "container_name" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "published on loopback only"


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_one_image_without_privileges(name: str) -> None:
    service = OURS[name]
    assert service["image"] == OURS["gateway"]["image"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "user" not in service, "the image's own, which is not root"


@pytest.mark.parametrize("name", OURS)
def test_environment_of_each_service_is_accepted_by_the_settings(name: str) -> None:
    environment = {variable: filled(str(value)) for variable, value in OURS[name]["environment"].items()}
    settings = load_settings(environment)
    assert settings.require_kafka_bootstrap() == "kafka:19092"
    assert settings.behind_tls_proxy == (name == "gateway")


def test_every_worker_role_has_its_service_and_all_wait_for_the_one_shots() -> None:
    assert [name for name in SERVICES if name.startswith("worker-")] == [f"worker-{role.name}" for role in WORKER_ROLES]
    for name in OURS.keys() - ONE_SHOTS:
        command = SERVICES[name]["command"]
        assert command == (["gateway"] if name == "gateway" else ["worker", name.removeprefix("worker-")])
        assert {"catalog", "topics", "keys"} <= SERVICES[name]["depends_on"].keys()


def test_private_keys_reach_only_their_maker_and_the_worker_that_signs() -> None:
    holders = {name for name, service in SERVICES.items() if "keys:/var/lib/keyway" in str(service.get("volumes"))}
    named = {name for name, service in OURS.items() if "KEYWAY_SIGNING_KEYS_FILE" in service["environment"]}
    assert holders == named == {"keys", "worker-license"}
    assert "migrate" in SERVICES["keys"]["depends_on"]


def test_every_variable_of_compose_stands_in_the_example_file_and_no_secret_has_a_value() -> None:
    used = {found[1] for found in VARIABLE.finditer((ROOT / "docker-compose.yml").read_text())}
    assert used == EXAMPLE.keys()
    assert EXAMPLE["POSTGRES_PASSWORD"] == ""
    assert all(
        name.removeprefix(PREFIX).lower() in Settings.model_fields for name in EXAMPLE if name.startswith(PREFIX)
    )


def test_image_is_built_from_hashes_and_runs_as_nobody_special() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(stages) == 2
    assert all(PINNED.match(image) for image in stages)
    assert re.search(r"uv pip sync --require-hashes --compile-bytecode .*requirements/runtime\.txt", DOCKERFILE)
    assert "--build-constraints requirements/build.txt" in DOCKERFILE
    assert "--editable" not in DOCKERFILE
    final = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]
    assert re.search(r"^USER (?!0)\d+:\d+$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["keyway"]' in final


def test_image_holds_every_package_of_the_wheel_and_the_builder_gets_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    first_stage = DOCKERFILE[: DOCKERFILE.rindex("FROM ")]
    assert sorted(re.findall(r"^COPY (\w+) \1$", first_stage, re.MULTILINE)) == sorted(packages)
    copied = {
        source for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    }
    allowed = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert {source.split("/")[0] if source.startswith("requirements/") else source for source in copied} == allowed


def test_lock_names_each_server_file_once_with_its_hash() -> None:
    files = parse_lock(LOCK_FILE.read_text())
    assert {file.part for file in files} == {"kafka", "postgres-amd64", "postgres-arm64v8"}
    assert len({file.name for file in files}) == len(files) > 40
    assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0 for file in files)


@pytest.mark.parametrize("name", ["runtime", "local", "dev", "build", "uv"])
def test_locked_requirements_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pins = re.findall(r"^[a-z0-9._-]+(?:\[[a-z,]+\])?==", text, re.MULTILINE)
    assert pins
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def test_every_make_target_goes_through_the_bootstrap() -> None:
    recipes = re.findall(r"^([a-z]+):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {name for name, _ in recipes} == {"help", "up", "demo", "test", "check", "bench", "lock"}
    for name, recipe in recipes:
        lines = recipe.strip().splitlines()
        assert name == "help" or all("$(BOOTSTRAP)" in line for line in lines)


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("exec make test")


def test_bootstrap_needs_nothing_but_the_standard_library() -> None:
    """It runs before anything is installed; `-S` leaves the site packages out."""
    paths = [str(ROOT), str(ROOT / "deploy")]
    code = f"import sys; sys.path[:0] = {paths!r}; import bootstrap, keyway.localstack.folders"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=20)
