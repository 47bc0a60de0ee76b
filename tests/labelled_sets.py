"""Labelled photos in folders and archives, and ImageNet's lists, made up."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import scipy.io

from photolabel import labels, truth
from photolabel.labels import Label
from photolabel.sources import Item, find
from photolabel.truth import Labelled, LabelledPhotos

from pictures import PNG

CONTAINERS = ["folder", "tar", "gzip", "zip"]
IMAGENET = labels.imagenet()
WNIDS = [str(label.wnid) for label in IMAGENET]
DEVKIT = random.Random(2012).sample(WNIDS, 1000)  # an order of its own, as the devkit has; number 1 first


def plant(top: Path, names: Iterable[str], container: str = "folder") -> Path:
    """Put photos of these names into a folder or an archive `photos`, and return its path."""
    top.mkdir(parents=True, exist_ok=True)
    path = top / {"folder": "photos", "tar": "photos.tar", "gzip": "photos.tgz", "zip": "photos.zip"}[container]
    if container == "folder":
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(PNG)
    elif container == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name in names:
                zipped.writestr(name, PNG)
    else:
        with tarfile.open(path, "w:gz" if container == "gzip" else "w") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(PNG)
                tar.addfile(member, io.BytesIO(PNG))
    return path


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def told(source: Path, classes: Sequence[Label] = IMAGENET, **options: Path) -> tuple[dict[str, int], str]:
    """What is said of the photos of a source, by their names in it; and how it was told."""
    made = truth.labelled(find([source]), classes, file=options.get("file"), order=options.get("order"))
    found = {each.item.photo.removeprefix(f"{source}/"): each.index for each in made}
    return found, made.description


def items(*photos: str) -> list[Item]:
    return [Item(photo=photo, path=photo) for photo in photos]


def first(made: LabelledPhotos) -> Labelled:
    return next(made)


def val(number: int) -> str:
    return f"ILSVRC2012_val_{number:08}.JPEG"


def meta_mat(
    order: Sequence[str] = DEVKIT, *, compressed: bool = False, swap: dict[int, object] | None = None
) -> bytes:
    """The devkit's meta.mat: the classes, and a few names above them. `swap` puts other ids in place of some."""
    return _plain_mat(compressed) if order is DEVKIT and swap is None else _mat(order, compressed, swap)


@cache  # SciPy takes half a second for one
def _plain_mat(compressed: bool) -> bytes:
    return _mat(DEVKIT, compressed, None)


def _mat(order: Sequence[str], compressed: bool, swap: dict[int, object] | None) -> bytes:
    rows = np.zeros((len(order) + 60, 1), [(name, "O") for name in ("ILSVRC2012_ID", "WNID", "words", "children")])
    above = [f"n9{number:07}" for number in range(60)]
    for place, wnid in enumerate([*order, *above]):
        number = (swap or {}).get(place, float(place + 1))
        rows[place, 0] = (number, wnid, "a name, another", np.zeros((1, 0)))
    out = io.BytesIO()
    scipy.io.savemat(out, {"before": np.eye(3), "synsets": rows}, do_compression=compressed)
    return out.getvalue()
