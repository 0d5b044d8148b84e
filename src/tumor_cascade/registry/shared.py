"""What all promoters share: the model registry and the ledger."""

import logging
import os
from dataclasses import dataclass

from mlflow.exceptions import MlflowException

from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.object_store import FolderStore, ObjectStore, open_store
from tumor_cascade.registry.aliases import LEDGER_TAG, open_chain
from tumor_cascade.registry.client import TrackingError, connect, open_experiment
from tumor_cascade.registry.ledger import LEDGER_PREFIX, Chain, read_chain, require_sound
from tumor_cascade.registry.location import LEDGER_VARIABLE, locate_ledger
from tumor_cascade.registry.versions import ModelRegistry

logger = logging.getLogger(__name__)


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


def find_ledger(registry: ModelRegistry | None = None) -> Chain | None:
    """Return the ledger for someone who reads; None where nobody names one, or it cannot be reached.

    Args:
        registry: Connected; by default that of MLFLOW_TRACKING_URI, where it is set and answers.

    Raises:
        DataError: The ledger does not hold together.
        ParamsError: The environment names another ledger than the registry does.
    """
    url, remembered = os.environ.get(LEDGER_VARIABLE), None
    try:
        if registry is None and os.environ.get("MLFLOW_TRACKING_URI"):
            registry = ModelRegistry(connect(), "")
        if registry is not None:
            remembered = registry.read_model()[1].get(LEDGER_TAG)
    except (TrackingError, MlflowException) as error:
        logger.warning("the registry cannot be asked for its ledger: %s", error)
        registry = None
    if not (url := url or remembered):
        return None
    try:
        store = open_store(url)
        require_reachable(store)
    except (TumorCascadeError, OSError) as error:
        logger.warning("the ledger cannot be reached: %s", error)
        return None
    return require_sound(read_chain(store), store) if registry is None else open_chain(registry, store)


def require_reachable(store: ObjectStore) -> None:
    """Ask a ledger's store for its entries; a folder that is missing, or not mounted, is not an empty ledger.

    Raises:
        OSError: The folder cannot be read.
        DataError: The S3 server cannot be reached, or refuses.
    """
    if isinstance(store, FolderStore):
        list((store.folder / LEDGER_PREFIX).iterdir())
    else:
        store.list_keys(LEDGER_PREFIX)
