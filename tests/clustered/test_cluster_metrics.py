"""How far a run is, among the metrics that a node of Ray's gives to Prometheus."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import photolabel
from photolabel import batch
from photolabel.cluster import Cluster, flow
from photolabel.sources import Item

import clusters
from crews import eventually
from pictures import PNG

pytestmark = [clusters.LINUX, pytest.mark.filterwarnings("ignore")]  # what Ray warns of is Ray's

DOCS = Path(__file__).parent.parent.parent / "docs" / "scale.md"
NAME = "ray_photolabel_photos_total"
FIRST, ALL = 3 * flow._PHOTOS, 4 * flow._PHOTOS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    often = {"_system_config": {"metrics_report_interval_ms": 500}}  # ten seconds else
    with clusters.running(tmp_path_factory.mktemp("cache"), nodes=1, processors=2, head=often) as running:
        yield running


def exported() -> float:
    """How many photos are done, as the node says where Prometheus would ask it."""
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == NAME)


def test_how_far_it_is_is_among_ray_s_metrics(cluster: Any, tiny: Path, tmp_path: Path) -> None:
    assert NAME in DOCS.read_text("utf-8")
    (tmp_path / "a.png").write_bytes(PNG)
    seen: list[float] = []

    def listing() -> Iterator[Item]:
        for number in range(ALL):
            if number == FIRST:
                eventually(lambda: exported() >= FIRST, 60)
                seen.append(exported())
            yield Item(photo=f"{number}", path=str(tmp_path / "a.png"))

    with photolabel.load(tiny, threads=1) as classifier, Cluster() as there:
        assert len([*batch.predictions(listing(), classifier, there, top=1)]) == ALL
    assert seen == [FIRST]
    assert eventually(lambda: exported() == ALL, 60), "what the networks did last, too"
