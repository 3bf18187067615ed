"""The declared topics fit the code that writes and reads them."""

from pathlib import Path

import pytest

from keyway.cli.topics import DECLARATION, read_declaration
from shared.contracts.identifiers import partition_of
from shared.contracts.topics import (
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    LICENSE_EVENTS,
    LICENSE_EVENTS_PARTITIONS,
    LICENSE_INTAKE,
    LICENSE_INTAKE_PARTITIONS,
    LICENSE_REPLIES,
    LICENSE_REPLIES_PARTITIONS,
    PROVIDER_REQUESTS,
    PROVIDER_REQUESTS_PARTITIONS,
    USAGE_REPORTED,
    USAGE_REPORTED_PARTITIONS,
    dead_letter_topic,
)
from shared.errors import ConfigurationError
from shared.kafka import DEAD_LETTER_LIMIT_BYTES, RECORD_LIMIT_BYTES

DEAD = dead_letter_topic(LICENSE_COMMANDS)
INTAKE_DEAD = dead_letter_topic(LICENSE_INTAKE)
BELLS_DEAD = dead_letter_topic(PROVIDER_REQUESTS)
USAGE_DEAD = dead_letter_topic(USAGE_REPORTED)
DAY_MS = 86_400_000


def test_exactly_the_topics_in_use_are_declared() -> None:
    assert set(read_declaration().topics) == {
        LICENSE_COMMANDS,
        LICENSE_REPLIES,
        LICENSE_EVENTS,
        DEAD,
        PROVIDER_REQUESTS,
        BELLS_DEAD,
        USAGE_REPORTED,
        USAGE_DEAD,
        LICENSE_INTAKE,
        INTAKE_DEAD,
    }


def test_partition_counts_are_those_of_the_code() -> None:
    topics = read_declaration().topics

    assert topics[LICENSE_COMMANDS].partitions == LICENSE_COMMANDS_PARTITIONS == 24
    assert topics[LICENSE_REPLIES].partitions == LICENSE_REPLIES_PARTITIONS == 64
    assert topics[LICENSE_EVENTS].partitions == LICENSE_EVENTS_PARTITIONS == 24
    assert topics[PROVIDER_REQUESTS].partitions == topics[BELLS_DEAD].partitions == PROVIDER_REQUESTS_PARTITIONS
    assert topics[USAGE_REPORTED].partitions == topics[USAGE_DEAD].partitions == USAGE_REPORTED_PARTITIONS
    assert topics[DEAD].partitions == LICENSE_COMMANDS_PARTITIONS, "a dead letter keeps its partition number"
    assert topics[LICENSE_INTAKE].partitions == topics[INTAKE_DEAD].partitions == LICENSE_INTAKE_PARTITIONS


def test_every_record_fits_its_topic_and_its_dead_letter() -> None:
    topics = read_declaration().topics

    assert topics[LICENSE_COMMANDS].settings["max.message.bytes"] == RECORD_LIMIT_BYTES
    assert topics[DEAD].settings["max.message.bytes"] == DEAD_LETTER_LIMIT_BYTES
    assert RECORD_LIMIT_BYTES > 6 * 524_288, "512 KiB of control characters, each six bytes in JSON"


def test_topics_with_activation_data_forget_within_a_week_and_are_never_compacted() -> None:
    topics = read_declaration().topics

    assert all(topic.settings["cleanup.policy"] == "delete" for topic in topics.values())
    assert int(topics[LICENSE_COMMANDS].settings["retention.ms"]) <= 7 * DAY_MS
    assert int(topics[DEAD].settings["retention.ms"]) <= 7 * DAY_MS


def test_no_acknowledged_record_hangs_on_one_broker_in_production() -> None:
    declared = read_declaration()

    assert declared.replication_factor == 3
    assert {name: topic.min_insync_replicas for name, topic in declared.topics.items()} == {
        LICENSE_COMMANDS: 2,
        DEAD: 2,
        LICENSE_EVENTS: 2,
        LICENSE_REPLIES: 1,
        PROVIDER_REQUESTS: 2,
        BELLS_DEAD: 2,
        USAGE_REPORTED: 2,
        USAGE_DEAD: 2,
        LICENSE_INTAKE: 2,
        INTAKE_DEAD: 2,
    }
    assert all(topic.settings["unclean.leader.election.enable"] is False for topic in declared.topics.values())


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (5, 3, "2")])
def test_fewer_brokers_mean_fewer_replicas(brokers: int, replicas: int, in_sync: str) -> None:
    declared = read_declaration()

    assert declared.replicas_on(brokers) == replicas
    assert declared.settings_of(declared.topics[LICENSE_COMMANDS], brokers)["min.insync.replicas"] == in_sync


@pytest.mark.parametrize(
    ("key", "partition"),
    [(b"ka:00000001", 14), (b"ka:00481516", 21), (b"partner:4294967295", 23), (b"", 0)],
)
def test_partition_of_a_license_is_for_ever(key: bytes, partition: int) -> None:
    assert partition_of(key, LICENSE_COMMANDS_PARTITIONS) == partition


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("version: 1\n", "replication_factor"),
        ("version: 2\nreplication_factor: 3\ntopics: {}\n", "version"),
        ("version: [", "YAML"),
        (DECLARATION.read_text(encoding="utf-8").replace("partitions: 24", "partitions: 0"), "partitions"),
        (DECLARATION.read_text(encoding="utf-8").replace("partitions:", "partition:"), "partition"),
    ],
)
def test_faulty_declaration_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError, match=complaint):
        read_declaration(path)
