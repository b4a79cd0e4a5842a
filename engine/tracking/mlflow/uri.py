"""The tracking URI of MLflow: its default, a check before anything starts, and commands for a shell.

MLflow and SQLAlchemy, which take two seconds, are imported only where a URI is not that of a SQLite file.
"""

import os
import shlex
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

from engine.io.patience import within
from engine.io.shell import program

VARIABLE = "MLFLOW_TRACKING_URI"
PATIENCE_S = 15.0
"""Seconds to wait for MLflow, or for its database, when a study is opened."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow open an experiment as training of models, with its runs; without it the page may be one of agents."""
TRAINING = "workflowType=machine_learning"
"""What does the same for an address: a browser that has seen neither begins with agents."""
SQLITE = "sqlite:///"
PORT = 5000
"""The port that MLflow serves by default."""


def default_uri(storage: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI`` if it is set, else the SQLite file ``mlflow.db`` in the folder ``storage``."""
    database = str(storage.resolve() / "mlflow.db").replace("%", "%25").replace("?", "%3F")
    return os.environ.get(VARIABLE) or f"sqlite:///{database}"


def is_server(uri: str) -> bool:
    """Return whether a URI is that of a server."""
    return uri.startswith(("http://", "https://"))


def is_database(uri: str) -> bool:
    """Return whether a URI is that of a database."""
    from mlflow.store.db.db_types import DATABASE_ENGINES

    return uri.startswith(tuple(DATABASE_ENGINES))


def database_file(uri: str) -> Path | None:
    """Return the file of a SQLite database, or None for anything else."""
    name = unquote(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else ""
    return Path(name).absolute() if name not in ("", ":memory:") else None


def check_uri(uri: str) -> None:
    """Check that MLflow knows this kind of URI, and that the driver of a database is installed.

    Raises:
        ValueError: it does not, or the driver is not.
    """
    if is_server(uri) or database_file(uri):
        return
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        if is_database(uri):
            make_url(uri).get_dialect().import_dbapi()
        else:
            MlflowClient(uri)
    except (ArgumentError, NoSuchModuleError, MlflowException) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{VARIABLE} is {shown(uri)!r}, with which MLflow cannot work ({reason}).") from error
    except ImportError as error:
        raise ValueError(
            f"{VARIABLE} is {shown(uri)!r}, whose driver {error.name} is not installed here; install it with pip, or "
            "unset the variable."
        ) from error


def shown(uri: str) -> str:
    """Return a URI without its password."""
    if "@" not in uri:  # which stands behind a password
        return uri
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri).render_as_string() if make_url(uri).password else uri
    except ArgumentError:
        return uri


def command(*words: str) -> str:
    """Return a line for a shell that runs MLflow of this environment; a URI with a password is its variable."""
    given = [shlex.quote(word) if shown(word) == word else f'"${VARIABLE}"' for word in words]
    return " ".join([program("mlflow"), *given])


def page(uri: str, experiment: str) -> list[str]:
    """Return the lines that lead to the page of an experiment's runs: a command where no server runs, and the address.

    The port of the command is MLflow's own, or the next one that is free on this machine. One worker serves a person,
    and starts on a busy machine too, where the supervisor of several ends them. There are no lines where a SQLite file
    is not there yet.
    """
    database = database_file(uri)
    if database and not database.is_file():
        return []
    server, lines = shown(uri).rstrip("/"), []
    if not is_server(uri):
        port = next(number for number in range(PORT, PORT + 1000) if _is_free(number))
        server = f"http://127.0.0.1:{port}"
        lines = [command("server", "--port", str(port), "--workers", "1", "--backend-store-uri", uri)]
    number = _number(uri, experiment)
    return [*lines, f"{server}/#/experiments/{number}/runs?{TRAINING}" if number else server]


def _number(uri: str, experiment: str) -> str | None:
    """Return the number of an experiment, or None where there is none, or nothing answers: that may come later."""
    if database := database_file(uri):
        try:
            with closing(sqlite3.connect(database, timeout=PATIENCE_S)) as connection:
                found = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", [experiment])
                return next((str(number) for (number,) in found), None)
        except sqlite3.DatabaseError:
            return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        there = within(PATIENCE_S, lambda: MlflowClient(uri).get_experiment_by_name(experiment))
    except (MlflowException, OSError):
        return None
    return there.experiment_id if there else None


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()  # may take a port that was closed a moment ago, as servers do
    except OSError:
        return False
    return True


def follow_move(database: Path, experiment: str, artifacts: Path) -> None:
    """Let an experiment and its runs find ``artifacts``, beside which its SQLite file lies, after a move or a copy.

    MLflow keeps absolute paths and has no call that changes them. Nothing is changed where the experiment is absent or
    was not made here, or where the file is no database, which MLflow says itself.

    Raises:
        TimeoutError: another process keeps the database locked.
    """
    if not database.is_file() or database.parent.resolve() != artifacts.parent.resolve():
        return
    new = artifacts.resolve().as_uri()
    experiments = "SELECT experiment_id, artifact_location FROM experiments WHERE name = ?"
    move = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?"
    move_runs = "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?"
    try:
        with closing(sqlite3.connect(database, timeout=PATIENCE_S)) as connection, connection:
            for number, old in connection.execute(experiments, [experiment]).fetchall():
                folder = local_folder(old)
                same = folder is not None and folder.exists() and artifacts.exists() and folder.samefile(artifacts)
                if old == new or folder is None or folder.name != artifacts.name or same:
                    continue
                connection.execute(move, [new, number])
                connection.execute(move_runs, [new, len(old) + 1, len(old) + 1, f"{old}/"])
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise TimeoutError(f"{database}: another process keeps this database locked") from error


def local_folder(uri: str) -> Path | None:
    """Return the folder of this machine that an artifact's URI names, or None."""
    parts = urlparse(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(uri) if uri.startswith("/") else None
