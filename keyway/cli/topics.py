"""`keyway topics apply`: make the broker's topics what `deploy/kafka/topics.yaml` declares.

It creates what is missing and sets what differs, any number of times; it never deletes a topic and never changes a
number of partitions.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import yaml
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError, for_code
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keyway.cli.installation import changes_stack, stack_settings
from keyway.cli.waiting import waiting
from shared.clock import MachineClock
from shared.errors import ConfigurationError, UnavailableError
from shared.kafka import offset_reader, start_client
from shared.kafka_ending import stop_client
from shared.settings import Settings

DECLARATION = Path(__file__).resolve().parents[2] / "deploy" / "kafka" / "topics.yaml"
MIN_INSYNC_REPLICAS = "min.insync.replicas"
REQUEST_TIMEOUT_MS = 15_000
DEADLINE_SECONDS = 60.0
TOPIC_WAIT_SECONDS = 45.0
LOOK_AGAIN_SECONDS = 0.1
STOP_CLIENT_SECONDS = 1.0

app = typer.Typer(help="Kafka topics, from the declared file.", add_completion=False, no_args_is_help=True)
app.callback()(lambda: None)  # a group, though it has one verb so far


class DeclaredTopic(BaseModel):
    """One topic as declared; setting names and values are Kafka's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partitions: int = Field(ge=1, le=1000)
    min_insync_replicas: int = Field(ge=1, le=9)
    settings: Mapping[str, str | int | bool]


class DeclaredTopics(BaseModel):
    """The declared file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1, le=1)
    replication_factor: int = Field(ge=1, le=9)
    topics: Mapping[str, DeclaredTopic]

    def replicas_on(self, brokers: int) -> int:
        """Return how many replicas a topic gets on a cluster of `brokers`."""
        return min(self.replication_factor, brokers)

    def settings_of(self, topic: DeclaredTopic, brokers: int) -> dict[str, str]:
        """Return the broker-side settings of `topic`, in Kafka's spelling."""
        whole = self.replicas_on(brokers) == self.replication_factor
        settings = {name: _kafka_text(value) for name, value in topic.settings.items()}
        return settings | {MIN_INSYNC_REPLICAS: str(topic.min_insync_replicas if whole else 1)}


def _kafka_text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_declaration(path: Path = DECLARATION) -> DeclaredTopics:
    """Return the declared topics. Raises `ConfigurationError` naming the fault."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return DeclaredTopics.model_validate(document)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(f"{path}: {faults}") from None


async def apply_topics(settings: Settings, declaration: Path = DECLARATION) -> list[str]:
    """Create the missing topics and set what differs; return one sentence per change, none when all is as declared.

    Topic names get `settings.topic_prefix` in front. Raises `ConfigurationError` when a topic has another number of
    partitions than declared or the broker refuses a setting (nothing is changed in the first case), and
    `UnavailableError` when no broker answers.
    """
    declared = read_declaration(declaration)
    bootstrap = settings.require_kafka_bootstrap()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), _admin(bootstrap) as client:
            return await _apply(client, declared, settings.topic_prefix, bootstrap)
    except (KafkaError, OSError, TimeoutError) as error:
        raise UnavailableError(
            f"Kafka at {bootstrap} did not carry out the change ({type(error).__name__}): try again"
        ) from None


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def _apply(client: AIOKafkaAdminClient, declared: DeclaredTopics, prefix: str, bootstrap: str) -> list[str]:
    brokers = len((await client.describe_cluster())["brokers"])
    present = await _partition_counts(client)
    _require_partitions(declared, present, prefix)
    missing = [name for name in declared.topics if prefix + name not in present]
    changes = await _create(client, declared, missing, prefix, brokers)
    await _wait_until_taken_up(bootstrap, {prefix + name: declared.topics[name].partitions for name in missing})
    kept = [name for name in declared.topics if name not in missing]
    return changes + await _update(client, declared, kept, prefix, brokers)


async def _partition_counts(client: AIOKafkaAdminClient) -> dict[str, int]:
    described = await client.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


def _require_partitions(declared: DeclaredTopics, present: Mapping[str, int], prefix: str) -> None:
    faults = [
        f"{prefix}{name} has {present[prefix + name]} partitions, declared are {topic.partitions}"
        for name, topic in declared.topics.items()
        if present.get(prefix + name, topic.partitions) != topic.partitions
    ]
    if faults:
        raise ConfigurationError(
            f"{'; '.join(faults)}. The number cannot change: keys would move and the order of each license's commands "
            "break. Drain and delete the topic, or migrate to one with a new name; nothing was changed"
        )


async def _create(
    client: AIOKafkaAdminClient, declared: DeclaredTopics, missing: Sequence[str], prefix: str, brokers: int
) -> list[str]:
    if not missing:
        return []
    replicas = declared.replicas_on(brokers)
    wanted = [
        NewTopic(
            prefix + name,
            declared.topics[name].partitions,
            replicas,
            topic_configs=declared.settings_of(declared.topics[name], brokers),
        )
        for name in missing
    ]
    answer = await client.create_topics(wanted)
    for topic, code, *detail in answer.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:  # somebody else may run us at the same time
            raise ConfigurationError(
                f"topic {topic} was refused: {for_code(code).__name__} {detail[0] if detail else ''}"
            )
    await _wait_until_led(client, [prefix + name for name in missing])
    few = "" if replicas == declared.replication_factor else f" ({brokers} of {declared.replication_factor} brokers)"
    return [
        f"created {prefix}{name}: {declared.topics[name].partitions} partitions, {replicas} replicas{few}"
        for name in missing
    ]


async def _wait_until_led(client: AIOKafkaAdminClient, topics: Sequence[str]) -> None:
    """Wait until every partition has a leader, so that somebody can be asked for it."""
    async with asyncio.timeout(TOPIC_WAIT_SECONDS):
        while True:
            described = await client.describe_topics(list(topics))
            if all(
                topic["error_code"] == 0
                and topic["partitions"]
                and all(part["leader"] >= 0 for part in topic["partitions"])
                for topic in described
            ):
                return
            await MachineClock().sleep(LOOK_AGAIN_SECONDS)


async def _wait_until_taken_up(bootstrap: str, topics: Mapping[str, int]) -> None:
    """Wait until the leader of every partition knows that it leads, so that whoever comes next can write at once.

    The broker tells of a new leader before that leader has made its logs: on a busy machine seconds before, in which
    it refuses records. Where a partition ends, only a leader at work answers; the client asks until it does.
    """
    if not topics:
        return
    partitions = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
    consumer = offset_reader(bootstrap)
    await start_client(consumer, bootstrap)
    try:
        async with asyncio.timeout(TOPIC_WAIT_SECONDS):
            while True:
                with suppress(KafkaTimeoutError):  # the client's own patience, shorter than ours
                    await consumer.end_offsets(partitions)
                    return
    finally:
        await stop_client(consumer, STOP_CLIENT_SECONDS)


async def _update(
    client: AIOKafkaAdminClient, declared: DeclaredTopics, names: Sequence[str], prefix: str, brokers: int
) -> list[str]:
    if not names:
        return []
    current = await _settings_now(client, [prefix + name for name in names])
    changes: list[str] = []
    resources: list[ConfigResource] = []
    for name in names:
        wanted = declared.settings_of(declared.topics[name], brokers)
        now = current[prefix + name]
        different = [key for key, value in wanted.items() if now.get(key) != value]
        if different:
            resources.append(ConfigResource(ConfigResourceType.TOPIC, prefix + name, wanted))
            changes += [f"set {prefix}{name} {key}={wanted[key]} (was {now.get(key)})" for key in different]
    if resources:
        await _alter(client, resources)
    return changes


async def _settings_now(client: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics])
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }


async def _alter(client: AIOKafkaAdminClient, resources: list[ConfigResource]) -> None:
    for answer in await client.alter_configs(resources):
        for code, text, _type, topic in answer.resources:
            if code:
                raise ConfigurationError(f"settings of {topic} were refused: {for_code(code).__name__} {text or ''}")


@app.command("apply")
@changes_stack
def apply(
    file: Annotated[Path, typer.Option(help="Declared topics.")] = DECLARATION,
    json: Annotated[bool, typer.Option("--json", help="Print the changes as JSON.")] = False,
) -> None:
    """Create missing topics and set what differs from the declared file; safe to repeat."""
    settings = stack_settings()
    with waiting("comparing topics"):
        changes = asyncio.run(apply_topics(settings, file))
    if json:
        document: dict[str, Any] = {"changes": changes}
        typer.echo(orjson.dumps(document).decode())
        return
    for change in changes:
        typer.echo(change)
    if not changes:
        typer.echo("all topics are as declared")
