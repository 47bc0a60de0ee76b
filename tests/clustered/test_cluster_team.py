"""Networks and decoders that cannot be had: how often that is borne, and how it is told. Ray is a stand-in here."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from photolabel.cluster import nodes, team
from photolabel.errors import ClusterError, UsageError
from photolabel.images import CROP, DEFAULT_LIMITS
from photolabel.prepared import Prepared
from photolabel.sources import Item

pytest.importorskip("ray.data", reason="the extra ray is not installed")


class Machines:
    """A Ray of machines with so many processors, each of whose networks dies when it is asked for."""

    def __init__(self, **processors: int) -> None:
        import ray

        self.exceptions = ray.exceptions
        self.util = ray.util
        self._nodes = [
            {"NodeID": name.encode().hex().ljust(56, "0"), "Alive": True, "Resources": {"CPU": count}}
            for name, count in processors.items()
        ]

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes

    def get(self, reference: Any) -> Any:
        raise self.exceptions.RayActorError()

    def kill(self, actor: Any) -> None:
        pass

    def options(self, **_: Any) -> Any:
        """As a class of actors, of which one is made."""
        loading = SimpleNamespace(remote=lambda *_: object())
        return SimpleNamespace(remote=lambda: SimpleNamespace(load=loading))


def test_a_machine_with_many_networks_may_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """They die together: that is one death. Of a machine whose networks die again and again it is said."""
    machines = Machines(small=1, large=64)
    networks = team.Team(machines, machines, b"", {}, threads=1)
    monkeypatch.setattr(team, "_LOOK", 0.0)
    for _ in range(team._DEATHS - 1):
        networks.tend()
        assert len(networks.loading) == 65
        for reference in networks.loading:
            networks.loaded(reference)
        assert not networks.loading
    networks.tend()
    with pytest.raises(ClusterError, match="died 12 times, and named nothing"):
        networks.loaded(networks.loading[0])


def test_a_machine_that_cannot_start_a_process_has_its_photos_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray tells an OSError of a task to be tried once more, on whichever machine has room."""
    future: Future[Prepared] = Future()
    future.set_exception(UsageError("No process could be started. --workers 0 does without."))
    monkeypatch.setattr(nodes, "_crew", lambda *_: SimpleNamespace(prepare=lambda *_, **__: future))
    with pytest.raises(OSError, match="cannot start a process") as caught:
        nodes.decode([Item(photo="a", path="a")], (CROP,), DEFAULT_LIMITS, 60)
    assert "--workers" not in str(caught.value)
