"""The workspace: one folder that holds everything, so that two of them never see each other."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ganpipe.compute.locks import lock_file
from ganpipe.errors import GanpipeError
from ganpipe.files import write_text
from ganpipe.settings.params import Params, read_params

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_name(name: str) -> str:
    """`name`, if it can name a dataset everywhere: a folder, a DVC stage, a registered model."""
    if not NAME.fullmatch(name):
        raise GanpipeError(
            f"{name!r} cannot name a dataset: use up to 64 letters, digits, '-' and '_', and begin with a "
            "letter or a digit."
        )
    return name


def take_credentials(variable: str) -> tuple[str, str]:
    """Takes user and password out of a variable that holds an http address: messages of others quote the address."""
    parts = urlsplit(os.environ.get(variable, ""))
    host, user = parts.netloc.rpartition("@")[2], parts.username or ""
    if parts.scheme not in ("http", "https") or not user:
        return "", ""
    os.environ[variable] = urlunsplit(parts._replace(netloc=host))
    return unquote(user), unquote(parts.password or "")


@dataclass(frozen=True)
class Workspace:
    """Paths below one root. Nothing of ganpipe or of its tools is written outside."""

    root: Path

    @property
    def state(self) -> Path:
        """Ignored by git: MLflow's database and artifacts, Prefect's home, the runs."""
        return self.root / ".ganpipe"

    @property
    def params_file(self) -> Path:
        return self.root / "params.yaml"

    @property
    def runs(self) -> Path:
        return self.state / "runs"

    @property
    def reports(self) -> Path:
        """Accounts of datasets: what was added, what they look like."""
        return self.state / "reports"

    @property
    def features(self) -> Path:
        """A cache: features of generated images, by their pixels."""
        return self.state / "features"

    @property
    def thumbnails(self) -> Path:
        """A cache: small copies of images, by file and its time."""
        return self.state / "thumbnails"

    @property
    def drawn(self) -> Path:
        """Images and films of models that the dashboard was asked for."""
        return self.state / "drawn"

    @property
    def uploads(self) -> Path:
        """Photos and styles that the dashboard has received."""
        return self.state / "uploads"

    @property
    def styles(self) -> Path:
        return self.root / "data" / "styles"

    def raw(self, name: str) -> Path:
        return self.root / "data" / "raw" / name

    def prepared(self, name: str) -> Path:
        return self.root / "data" / "prepared" / name

    def params(self) -> Params:
        """The contents of `params.yaml`."""
        return read_params(self.params_file)

    def activate(self) -> None:
        """Points Prefect, MLflow and DVC into this workspace and turns telemetry off.

        Must come before any of the three is imported. What the user has set in the environment wins.
        """
        defaults = {
            "MLFLOW_TRACKING_URI": sqlite_uri(mlflow_database(self)),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "PREFECT_HOME": str(self.state / "prefect"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_database_uri(self),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "ganpipe",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            # A failure is one sentence here; what led to it is logged to the server.
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            "PREFECT_CLI_PROMPT": "false",
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(self.state / "dvc-config"),
            "DO_NOT_TRACK": "1",
        }
        # Two trainings at once on two cores went at 12 images/s instead of 3,200 while their idle threads spun
        # (LOG.md). Alone it costs nothing measurable. OpenMP reads it when torch is imported.
        defaults["GOMP_SPINCOUNT"] = "1000"
        for key, value in defaults.items():
            if not os.environ.get(key):  # a container may get an empty one
                os.environ[key] = value
        user, password = take_credentials("MLFLOW_TRACKING_URI")
        if user:
            os.environ.setdefault("MLFLOW_TRACKING_USERNAME", user)
            os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", password)
        user, password = take_credentials("PREFECT_API_URL")
        if user:
            os.environ.setdefault("PREFECT_API_AUTH_STRING", f"{user}:{password}" if password else user)
        bin_folder = str(Path(sys.executable).parent)
        if bin_folder not in os.environ.get("PATH", "").split(os.pathsep):
            os.environ["PATH"] = bin_folder + os.pathsep + os.environ.get("PATH", "")
        try:
            make_state_folder(self.state)
        except OSError as error:
            raise GanpipeError(
                f"The workspace {self.root} cannot be written ({error.strerror}); choose another with --workspace."
            ) from None

    @contextmanager
    def lock(
        self,
        what: str,
        wait_s: float = 600.0,
        say: Callable[[str], None] = lambda sentence: None,
        holder: str = "",
    ) -> Iterator[None]:
        """Only one process of this workspace does `what` at a time; the kernel frees it if the holder dies.

        `say` gets a sentence that names the holder if there is one to wait for. Children do not inherit the lock.
        `holder`: what this sentence calls us.

        Raises:
            Busy: somebody else still holds it after `wait_s`; the sentence says who.
        """
        with lock_file(self.state / "locks", what, wait_s, say, holder):
            yield

    @contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """A folder that is deleted afterwards. Its name holds the process id, by which `leftovers` finds those of a kill."""
        make_state_folder(self.state)
        with TemporaryDirectory(dir=self.state, prefix=f"scratch-{os.getpid()}-") as scratch:
            yield Path(scratch)


def make_state_folder(folder: Path) -> None:
    """Makes the folder of a workspace's state, which git ignores, whichever repository it lies in."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        ignore_in_git(folder)


def ignore_in_git(folder: Path) -> None:
    """Lets git ignore everything in a folder."""
    if not (folder / ".gitignore").exists():
        write_text(folder / ".gitignore", "*\n")


def mlflow_database(workspace: Workspace) -> Path:
    """MLflow's database, where no MLFLOW_TRACKING_URI names another."""
    return workspace.state / "mlflow.db"


def tracks_here(workspace: Workspace) -> bool:
    """Whether MLflow's store is the database of this workspace."""
    uri = sqlite_uri(mlflow_database(workspace))
    return os.environ.get("MLFLOW_TRACKING_URI", uri) == uri


def prefect_database(workspace: Workspace) -> Path:
    """Prefect's database, where no PREFECT_SERVER_DATABASE_CONNECTION_URL names another."""
    return workspace.state / "prefect" / "prefect.db"


def prefect_database_uri(workspace: Workspace) -> str:
    """The address of this database as Prefect's server takes it."""
    return sqlite_uri(prefect_database(workspace), "+aiosqlite")


def sqlite_uri(path: Path, driver: str = "") -> str:
    """The address of a SQLite database for SQLAlchemy, which reads a `?` in it as the beginning of options.

    A quoted address always names the driver: without it MLflow would make folders called like the address.
    """
    if "?" in str(path):
        return f"sqlite{driver or '+pysqlite'}:///file:{quote(str(path))}?uri=true"
    return f"sqlite{driver}:///{path}"


def open_workspace(path: str | None) -> Workspace:
    """The workspace at `path`, or the current folder.

    Raises:
        GanpipeError: `path` is no folder.
    """
    root = Path(path or ".").resolve()
    if root.exists() and not root.is_dir():
        raise GanpipeError(f"The workspace {root} is a file; it must be a folder.")
    return Workspace(root)
