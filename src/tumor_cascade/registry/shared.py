"""What all promoters share: the model registry and the ledger."""

from dataclasses import dataclass

from tumor_cascade.object_store import ObjectStore, open_store
from tumor_cascade.registry.aliases import LEDGER_TAG, open_chain
from tumor_cascade.registry.client import connect, open_experiment
from tumor_cascade.registry.ledger import Chain
from tumor_cascade.registry.location import locate_ledger
from tumor_cascade.registry.versions import ModelRegistry


@dataclass(frozen=True)
class Shared:
    """Registry and ledger."""

    registry: ModelRegistry
    store: ObjectStore

    def read_chain(self) -> Chain:
        """Return the ledger, checked."""
        return open_chain(self.registry, self.store)


def open_shared() -> Shared:
    """Return registry and ledger of the environment: MLFLOW_TRACKING_URI, TUMOR_CASCADE_LEDGER.

    Raises:
        TrackingError: The server does not answer.
        ParamsError: Nobody knows where the ledger belongs.
    """
    client = connect()
    experiment_id = open_experiment(client)
    registry = ModelRegistry(client, experiment_id)
    _, tags = registry.read_model()
    location = str(client.get_experiment(experiment_id).artifact_location)
    return Shared(registry, open_store(locate_ledger(client.tracking_uri, location, tags.get(LEDGER_TAG))))
