"""An address -> a connection to Ray, or an error that says what is wrong."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ClusterError, UsageError
from ..extras import needed

_PATIENCE = 10.0  # seconds that a machine may take to answer
_ADDRESS = re.compile(r"([A-Za-z0-9._-]+|\[[0-9a-f:]+\]):([0-9]{1,5})", re.ASCII)
# How HTTP/2, and so gRPC, begins (RFC 9113, 3.4): the client with these octets and a frame of settings, an empty one;
# the server with such a frame.
_SETTINGS = b"\x04"
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
_WORDS = ("auto", "local")


def check(address: str | None) -> None:
    """Raise `UsageError` for what is no address of a cluster, and `MissingExtraError` where Ray is not installed."""
    if address is not None and address not in _WORDS and not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"{address!r} is no address of a Ray cluster: expected HOST:PORT, auto or local, on a machine of the "
            "cluster. Photos stand before --ray, or behind --ray=ADDRESS."
        )
    _ray()


class Connection:
    """The connection of this process to a cluster, made at once; `ray` is the package, connected."""

    def __init__(self, address: str | None) -> None:
        check(address)
        self.ray = _ray()
        self._ours = not self.ray.is_initialized()
        if self._ours:
            self._connect(address)

    def _connect(self, address: str | None) -> None:
        # No word to anybody, as everywhere in photolabel: a cluster that is started here sends no statistics.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        asked = address or os.environ.get("RAY_ADDRESS")
        with _signals_kept():
            try:
                _reach(_meant(asked or "auto"))
                self._init(asked or "auto")
            except ConnectionError:
                if asked:
                    raise _unreachable(asked) from None
                self._init("local")

    def _init(self, address: str) -> None:
        started = {"include_dashboard": False} if address == "local" else {}
        try:
            self.ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **started)
        except (RuntimeError, ValueError, TimeoutError) as error:
            if self.ray.is_initialized():
                self.ray.shutdown()
            raise _refused(address, str(error)) from error

    def close(self) -> None:
        """End the connection, if it was made here."""
        if self._ours and self.ray.is_initialized():
            with _signals_kept():
                self.ray.shutdown()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Have SIGTERM do afterwards what it did before: Ray makes it another thing."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    came = False
    try:
        yield
    except SystemExit as end:
        came = main and end.code == signal.SIGTERM  # which is how Ray takes it
        if not came:
            raise
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)
    if came:
        signal.raise_signal(signal.SIGTERM)
        raise SystemExit(128 + signal.SIGTERM)


def _ray() -> Any:
    with needed("ray"):
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    return ray


def _meant(address: str) -> str:
    """The address that Ray would take for `auto`; others as they are. Raises ConnectionError where it knows of none."""
    if address != "auto":
        return address
    try:
        from ray._private.services import find_gcs_addresses, get_ray_address_from_environment

        find_gcs_addresses.cache_clear()  # as Ray does itself: a cluster of a while ago may be gone
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # as in `_init`: it would warn where there are several
        found = str(get_ray_address_from_environment(address, None))
    except (ImportError, AttributeError, TypeError):  # another Ray's inside is another: then it looks for itself
        return address
    except (OSError, UnicodeDecodeError):  # it knows of none, or cannot read what a cluster has left
        raise ConnectionError from None
    if not _ADDRESS.fullmatch(found) and found != os.environ.get("RAY_ADDRESS"):
        raise ConnectionError  # what a cluster has left was not written to its end
    return found


def _reach(address: str) -> None:
    """Raise ConnectionError where nobody listens, or somebody else than Ray; `ClusterError` for who says nothing.

    Ray itself would try for minutes, and end the process in the end. Whoever says nothing may be a cluster that has
    much to do: it is not left for one of our own.
    """
    if (found := _ADDRESS.fullmatch(address)) is None:
        return
    try:
        with socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=_PATIENCE) as there:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return
            there.sendall(_HTTP2)
            with there.makefile("rb") as answer:
                try:
                    said = answer.read(9)  # the length of a frame, its kind, and five bytes more
                except TimeoutError:
                    raise _unreachable(address) from None
        if said[3:4] != _SETTINGS:
            raise ConnectionError
    except (OSError, OverflowError):
        raise ConnectionError from None


def _unreachable(address: str) -> ClusterError:
    where = "on this machine" if address == "auto" else f"at {address}"
    return ClusterError(
        f"no Ray cluster answers {where}. Is it running (ray status), may this machine reach it, and with TLS "
        "(RAY_USE_TLS)? --ray=local starts one for the run."
    )


def _refused(address: str, why: str) -> ClusterError:
    if "ersion mismatch" in why:
        versions = re.findall(r"(Ray|Python): ([0-9][0-9A-Za-z.+-]*)", why)
        told = ", ".join(f"{name} {version.rstrip('.')}" for name, version in versions[:2])
        ours = ", ".join(f"{name} {version.rstrip('.')}" for name, version in versions[2:4])
        between = f" (there: {told}; here: {ours})" if told and ours else ""
        return ClusterError(
            f"the cluster at {address} runs another version of Ray or Python than this machine{between}. Install the "
            "same on both."
        )
    return ClusterError(f"the Ray cluster at {address} cannot be used: {_first_line(why)}")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "Ray gives no reason.")[:300]
