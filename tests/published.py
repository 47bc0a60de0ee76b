"""A tiny model that a server of our own publishes, and what is in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from photolabel.models import Model
from photolabel.store import Store

import servers
from oracle import TINY, he_normal, tiny_model
from servers import Server

NAME = "tiny_weights_tf_dim_ordering_tf_kernels.h5"
PHOTO = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def weights_file(path: Path, *, seed: int = 0, without: str = "") -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in TINY.learned])
        for name, (kernel, bias) in he_normal(TINY, seed).items():
            if name == without:
                continue
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([b"kernel", b"bias"])
            group["kernel"], group["bias"] = kernel, bias
    return path


@dataclass
class Published:
    model: Model
    server: Server
    body: bytes

    @property
    def requests(self) -> int:
        return len(self.server.requests)


def publish(server: Server) -> Published:
    asset = servers.asset(server.url, body=server.body, name=NAME, algorithm="md5")
    return Published(replace(tiny_model(), weights=asset), server, server.body)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return weights_file(tmp_path_factory.mktemp("h5") / NAME).read_bytes()


@pytest.fixture
def published(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    monkeypatch.delenv("PHOTOLABEL_OFFLINE")
    with Server(body) as server:
        yield publish(server)


@pytest.fixture
def keras_copy() -> Path:
    folder = Path(os.environ["KERAS_HOME"]) / "models"
    folder.mkdir()
    return folder / NAME


def cached() -> list[str]:
    """The files in the cache, but for locks and records."""
    folder = Store().folder
    return sorted(
        path.name for path in folder.iterdir() if path.is_file() and not path.name.endswith((".lock", ".record.json"))
    )


def flip(path: Path) -> None:
    """Change a byte in the middle; size and mtime stay."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
