"""The cluster, and a network to name photos by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import photolabel
from photolabel.classifier import Classifier

import clusters


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with clusters.running(tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture(scope="package")
def classifier(tiny: Path) -> Iterator[Classifier]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))
        with photolabel.load(tiny, threads=1) as loaded:
            yield loaded
