"""Where public requests come in: `license.intake`, in the safe shape of `runtime.topic_consumption`."""

from shared.contracts.topics import INTAKE_WORKER_GROUP, LICENSE_INTAKE
from workers.intake.batch import IntakeBatchWorker
from workers.runtime.consumption import Consumption
from workers.runtime.topic_consumption import Ground, topic_consumption


def license_intake(worker: IntakeBatchWorker, ground: Ground) -> Consumption:
    """Return the consumption of `license.intake` by `worker`, with nothing connected yet."""
    return topic_consumption(LICENSE_INTAKE, INTAKE_WORKER_GROUP, worker, ground)
