"""Find the address of a running cluster, and ask there before Ray does, which would wait for minutes."""

import os
import socket

from ray._private.services import canonicalize_bootstrap_address

from engine.io.paths import ray_folder
from engine.io.progress import echo

PATIENCE_S = 10.0
CURRENT = "ray_current_cluster"
"""The file in which ``ray start`` leaves its address; ``ray stop`` deletes it."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The beginning of HTTP/2, which gRPC speaks: a client's preface and its empty settings."""


def running_cluster() -> str | None:
    """Return the address of the cluster of ``RAY_ADDRESS`` or of ``ray start`` on this machine, or None.

    A file that ``ray start`` has left and whose cluster does not answer is named in a line, and counts as none.

    Raises:
        ValueError: ``RAY_ADDRESS`` is no address.
        ConnectionError: ``RAY_ADDRESS`` names a cluster that does not answer.
    """
    if given := os.environ.get("RAY_ADDRESS"):
        try:
            return _ask(given)
        except ValueError as error:
            raise ValueError(f"RAY_ADDRESS is {given!r}, expected host:port as in 10.0.0.1:6379.") from error
        except OSError as error:
            raise ConnectionError(
                f"RAY_ADDRESS: no cluster answers at {given!r} ({_reason(error)}); unset it or pass --local."
            ) from error
    left = ray_folder() / CURRENT
    try:
        address = left.read_text(encoding="utf-8").strip()
        _ask(address)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        echo(f"Ray: the cluster of {left} is not joined ({_reason(error)}); delete that file where it is gone")
        return None
    return address


def may_be_running() -> bool:
    """Return whether anything names a cluster to join; it is not asked."""
    return bool(os.environ.get("RAY_ADDRESS")) or (ray_folder() / CURRENT).exists()


def _ask(address: str) -> str | None:
    """Return an address where a server of gRPC answers, or None for ``local``, which stands for a private cluster."""
    client = address.removeprefix("ray://")
    place = client if client != address else canonicalize_bootstrap_address(address)
    if place is None:
        return None
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is no address")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") in ("0", "", "false"):
            connection.sendall(GREETING)
            if connection.recv(4)[3:] != b"\x04":  # the length and the kind of its settings
                raise ConnectionError("something else than a Ray cluster answers there")
    return address


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
