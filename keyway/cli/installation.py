"""Which installation a verb means: that of `--state-dir`, of the environment, or the local stack of the usual folder.

The one way for all verbs that talk to an installation: they are marked `@reads_stack` or `@changes_stack`, which gives
them `--state-dir`, and ask `stack_settings`. An installation is taken whole, from a named folder or the environment;
the usual folder is looked into only where neither says anything, so that nobody changes a production database, or a
local one, by a guess. A verb that changes something says which one it took unnamed.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from keyway.cli.refusal import RefusedError
from shared.errors import UnavailableError

if TYPE_CHECKING:
    from shared.settings import Settings

Outcome = TypeVar("Outcome")

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", help="State folder of the local stack that is meant, whatever the environment says."),
]
# What the broker library has to say is in our own errors; without this it writes lines of its own beside them.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())

NAMING = ("database_url", "kafka_bootstrap", "signing_keys_file")
"""Settings that name an installation: where the environment sets one of them, no state folder is looked into."""


class _Meant:
    """The installation that one call of a verb means, found when it is first asked for."""

    def __init__(self, state_dir: Path | None, *, changes: bool) -> None:
        self._named = state_dir
        self._changes = changes

    @cached_property
    def folder(self) -> Path:
        return state_folder(self._named)

    @cached_property
    def settings(self) -> "Settings":
        from shared.settings import load_settings

        settings = load_settings()
        if self._given():
            return settings
        found = _found_in(self.folder)
        if self._named is not None and not found:
            raise RefusedError(f"{self.folder} has no endpoints.json: `keyway up` was never ready there")
        if self._changes and self._named is None and found:
            where = f"database {_place(found['database_url'])}, Kafka {found['kafka_bootstrap']}"
            _say(f"using the local stack in {self.folder}: {where}")
        return _completed(settings, found)

    def silence(self, silent: UnavailableError) -> UnavailableError:
        """Return the failure with what may be done where the address came from a state folder."""
        if self._given():
            return silent
        return UnavailableError(
            f"{silent}; its address is that of the local stack in {self.folder}: does it still run?"
            f" `keyway up --state-dir {self.folder}` starts it"
        )

    def complaint(self, missing: str) -> str:
        """Return what is missing, with both ways to name it."""
        if given := self._given():
            return f"{missing} ({given[0]} is set, so no state folder is looked into unless --state-dir names one)"
        return (
            f"{missing}, or name the state folder of a local stack with --state-dir"
            f" ({self.folder} has no endpoints.json: `make up` was never ready there)"
        )

    def _given(self) -> list[str]:
        """Return the variables by which the environment names the installation that is meant; none if it does not."""
        from shared.settings import PREFIX, load_settings

        if self._named is not None:
            return []
        settings = load_settings()
        return [PREFIX + name.upper() for name in NAMING if name in settings.model_fields_set]


_MEANT: ContextVar[_Meant] = ContextVar("keyway_meant_installation")


def reads_stack(verb: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Give a verb that changes nothing the option `--state-dir`."""
    return _with_state_dir(verb, changes=False)


def changes_stack(verb: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Give a verb that changes an installation the option `--state-dir`; it says when it takes a local stack."""
    return _with_state_dir(verb, changes=True)


def stack_settings() -> "Settings":
    """Return the settings of this process, with what they leave open taken from the local stack that is meant.

    Raises `ConfigurationError` for settings that are wrong. What neither names stays empty: whoever needs it raises
    `AddressMissingError`, and the verb says how to name it. The panel's login is not among them: no verb calls it.
    """
    return _MEANT.get().settings


def meant_folder() -> Path:
    """Return the state folder that this call of a verb names, else the default one."""
    return _MEANT.get().folder


def state_folder(named: Path | None) -> Path:
    """Return the state folder meant: that of the command line, of KEYWAY_LOCAL_STATE_DIR, or the checkout's own."""
    from keyway.localstack.folders import found_state_folder
    from shared.settings import load_settings

    return named or load_settings().local_state_dir or found_state_folder()


def _with_state_dir(verb: Callable[..., Outcome], *, changes: bool) -> Callable[..., Outcome]:
    @wraps(verb)
    def called(*arguments: object, state_dir: Path | None = None, **options: object) -> Outcome:
        from shared.settings import AddressMissingError

        meant = _Meant(state_dir, changes=changes)
        before = _MEANT.set(meant)
        try:
            return verb(*arguments, **options)
        except AddressMissingError as missing:
            raise RefusedError(meant.complaint(str(missing))) from None
        except UnavailableError as silent:
            raise meant.silence(silent) from None
        finally:
            _MEANT.reset(before)

    plain = inspect.signature(verb)
    option = inspect.Parameter("state_dir", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=StateDir)
    called.__annotations__ = {**verb.__annotations__, "state_dir": StateDir}
    # typer makes options of what the signature says
    vars(called)["__signature__"] = plain.replace(parameters=[*plain.parameters.values(), option])
    return called


def _found_in(folder: Path) -> Mapping[str, str]:
    """Return what a folder tells of the stack that runs or ran there; nothing where none was ever ready."""
    import orjson

    from keyway.cli.world_files import clock_offset_file, signing_keys_file
    from keyway.localstack.endpoints import FILE_NAME

    file = folder / FILE_NAME
    try:
        document = orjson.loads(file.read_bytes())
        return {
            "database_url": str(document["database"]),
            "kafka_bootstrap": str(document["kafka"]),
            "signing_keys_file": str(signing_keys_file(folder)),
            "clock_offset_file": str(clock_offset_file(folder)),
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{file} cannot be read ({type(error).__name__}): start the stack anew") from None


def _completed(settings: "Settings", found: Mapping[str, str]) -> "Settings":
    """Return settings with all that names an installation as it was found; the rest as the environment says."""
    from shared.settings import Settings

    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return Settings.model_validate({**given, **found})


def _place(database_url: str) -> str:
    """Return a database address without its login."""
    return database_url.rpartition("@")[2]


def _say(text: str) -> None:
    print(f"keyway: {text}", file=sys.stderr)
