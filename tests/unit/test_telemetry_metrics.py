"""Every metric is declared once, well named, and reachable through typed access."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from shared.telemetry import metrics
from shared.telemetry.metric_names import ALL_METRICS, GATEWAY_PENDING_REPLIES, MetricKind
from shared.telemetry.metrics import (
    GatewayMetrics,
    IntakeMetrics,
    ProviderMetrics,
    RelayMetrics,
    SchedulerMetrics,
    UsageMetrics,
    WorkerMetrics,
)


@pytest.mark.parametrize("definition", ALL_METRICS, ids=lambda definition: definition.name)
def test_metric_name_follows_the_rule(definition: object) -> None:
    from shared.telemetry.metric_names import MetricDefinition

    assert isinstance(definition, MetricDefinition)
    assert re.fullmatch(
        r"keyway_(gateway|worker|license|relay|scheduler|provider|usage|intake)_[a-z_]+", definition.name
    )
    assert definition.name.endswith("_total") == (definition.kind is MetricKind.COUNTER)
    assert definition.meaning
    assert bool(definition.buckets) == (definition.kind is MetricKind.HISTOGRAM)


def test_no_name_is_declared_twice() -> None:
    names = [definition.name for definition in ALL_METRICS]

    assert len(set(names)) == len(names)


def test_every_declared_metric_is_registered_by_one_of_the_parts() -> None:
    registry = CollectorRegistry()
    WorkerMetrics.bound_to(registry)
    GatewayMetrics.bound_to(registry)
    IntakeMetrics.bound_to(registry)
    RelayMetrics.bound_to(registry)
    SchedulerMetrics.bound_to(registry)
    UsageMetrics.bound_to(registry)
    ProviderMetrics.bound_to(registry)
    text = generate_latest(registry).decode()

    assert [definition.name for definition in ALL_METRICS if f"# HELP {definition.name} " not in text] == []


def test_undeclared_dead_letter_reason_is_counted_as_other() -> None:
    registry = CollectorRegistry()
    worker = WorkerMetrics.bound_to(registry)

    worker.dead_letter("not_json")
    worker.dead_letter("made up")

    assert registry.get_sample_value("keyway_worker_dead_letters_total", {"reason": "not_json"}) == 1
    assert registry.get_sample_value("keyway_worker_dead_letters_total", {"reason": "other"}) == 1


def test_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="gauge"):
        metrics.counter(CollectorRegistry(), GATEWAY_PENDING_REPLIES)
