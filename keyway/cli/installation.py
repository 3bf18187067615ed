"""Which installation a verb means: the one that the environment names, else the local stack of a state folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from shared.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


def settings_of(state_dir: Path | None) -> Settings:
    """Return the settings of this process, with what they leave open taken from the local stack that runs.

    A named state folder wins over the environment. Without either the settings stay as they are, and whoever needs a
    value says that it is missing. The panel's login is not among them: no verb calls a provider.
    """
    from pydantic import SecretStr

    from keyway.localstack.endpoints import FILE_NAME
    from keyway.localstack.folders import default_state_folder

    settings = load_settings()
    if state_dir is None and settings.database_url.get_secret_value():
        return settings
    state = default_state_folder() if state_dir is None else state_dir
    document = _document(state / FILE_NAME)
    if document is None:
        return settings
    found = {"database_url": SecretStr(document["database"]), "kafka_bootstrap": document["kafka"]}
    return settings.model_copy(update=found)


def _document(file: Path) -> "Mapping[str, str] | None":
    import orjson

    try:
        document: dict[str, str] = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return document
