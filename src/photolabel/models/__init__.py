"""What photolabel knows of each model: the table of known ones, and any ONNX file that describes itself."""

from __future__ import annotations

import difflib
import functools
import os
import re
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path

from .. import store, weights
from ..errors import (
    InvalidModelError,
    InvalidWeightsError,
    MissingWeightsError,
    UnknownModelError,
    UsageError,
    WeightsMismatchError,
)
from ..images import CROP, CROP_BILINEAR, KERAS
from ..labels import imagenet
from ..spec import VGG16, VGG19, Spec
from ..store import Asset
from .record import CAFFE, FORMAT, TORCHVISION, Accuracy, Model, Normalisation, network, parse, read, said

__all__ = [
    "BUNDLED",
    "BUNDLED_DIGEST",
    "CAFFE",
    "FORMAT",
    "TORCHVISION",
    "Accuracy",
    "Model",
    "Normalisation",
    "agree",
    "described",
    "fitting",
    "known",
    "network",
    "normalisation_of",
    "own",
    "own_file",
    "own_store",
    "parse",
    "read",
    "resolve",
    "stranger",
    "with_weights",
]

BUNDLED = "efficientnet-lite2"
BUNDLED_DIGEST = "sha256:c1e0e541bda5470b50cd28f5eb39b92f9081f6cb1fd1f8f323d246e695bf40af"
# A user's own model, "mine", is imported/mine.onnx. Not too long, for its compiled network's name begins with it;
# and not like the names of our own artefacts, whose compiled networks are removed with them.
_OWN = re.compile(r"(?!.*-[0-9a-f]{16}$)(?!.*\.onnx$)[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII | re.IGNORECASE)


def _keras(folder: str, name: str, md5: str, size: int) -> Asset:
    return Asset(
        name=name,
        urls=(
            f"https://storage.googleapis.com/tensorflow/keras-applications/{folder}/{name}",
            f"https://github.com/fchollet/deep-learning-models/releases/download/v0.1/{name}",
        ),
        digest=f"md5:{md5}",
        size=size,
    )


def _oxford(spec: Spec, weights: Asset, top1: float, top5: float) -> Model:
    return Model(
        name=spec.name.lower(),
        recipes=(CROP, KERAS),
        labels=imagenet(),
        source=f"Keras' ImageNet weights of Oxford's {spec.name} (arXiv 1409.1556), md5 {weights.digest[4:]}",
        licence="CC BY 4.0, Visual Geometry Group, University of Oxford",
        accuracy=Accuracy(top1=top1, top5=top5, source="https://keras.io/api/applications/"),
        spec=spec,
        normalisation=CAFFE,
        weights=weights,
    )


def _torchvision(spec: Spec, name: str, sha256: str, size: int, top1: float, top5: float) -> Model:
    return Model(
        name=f"{spec.name.lower()}-torchvision",
        recipes=(CROP_BILINEAR,),
        labels=imagenet(),
        source=f"torchvision's {spec.name}_Weights.IMAGENET1K_V1, trained by torchvision, sha256 {sha256}",
        licence="BSD-3-Clause, that of torchvision, which states none for the weights alone",
        accuracy=Accuracy(top1=top1, top5=top5, source="https://pytorch.org/vision/stable/models.html"),
        spec=spec,
        normalisation=TORCHVISION,
        weights=Asset(
            name=name, urls=(f"https://download.pytorch.org/models/{name}",), digest=f"sha256:{sha256}", size=size
        ),
    )


@functools.cache
def known() -> dict[str, Model]:
    """Return the table of known models, by name.

    Hashes: keras/applications/vgg16.py and vgg19.py; torchvision's names hold the first eight digits of theirs.
    """
    vgg16 = _keras(
        "vgg16",
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        "64373286793e3c8b2b4e3219cbf3544b",
        553_467_096,
    )
    vgg19 = _keras(
        "vgg19",
        "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
        "cbe5617147190e668d6c5d5026f83318",
        574_710_816,
    )
    models = [
        _oxford(VGG16, vgg16, 71.3, 90.1),
        _oxford(VGG19, vgg19, 71.3, 90.0),
        _torchvision(
            VGG16,
            "vgg16-397923af.pth",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            553_433_881,
            71.592,
            90.382,
        ),
        _torchvision(
            VGG19,
            "vgg19-dcbb9e9d.pth",
            "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            574_673_361,
            72.376,
            90.876,
        ),
        read(Path(str(resources.files("photolabel").joinpath("data", f"{BUNDLED}.onnx")))),
    ]
    return {model.name: model for model in models}


def own_store() -> store.Store:
    """Where models lie that were imported under names of the user's own."""
    return store.Store(store.cache_folder() / "imported")


def own_file(name: str) -> str:
    """Return the name in `own_store` of the user's model `name`. Raises `UsageError` for what cannot be such a name."""
    file = f"{name}.onnx"
    if not _OWN.fullmatch(name) or not store.is_name(file):
        raise UsageError(
            f"expected a name of at most 40 letters, digits and ._-, not ending in .onnx; got {name[:80]!r}."
        )
    if name.lower() in known():  # also VGG16, which one would take for vgg16
        raise UsageError(f"{name} is the name of a known model: choose another.")
    return file


def own() -> list[str]:
    """Return the names of the imported models."""
    names = []
    for path in own_store().folder.glob("*.onnx"):
        with suppress(UsageError):
            own_file(path.stem)
            names.append(path.stem)
    return sorted(names)


def _imported(name: str) -> Model | None:
    try:
        file = own_file(name)
    except UsageError:
        return None
    kept = own_store()
    if not os.path.lexists(kept.path(file)):
        return None
    if not kept.check(file):  # nobody else can make it again
        raise InvalidModelError(
            f"the imported model {name} is damaged: its file is not what was imported. "
            f"Remove it (photolabel models remove {name}) and import it again."
        )
    return replace(read(kept.path(file)), name=name)


def resolve(name: str | Path) -> Model:
    """Return the model of that name, known or imported, or the one that an ONNX file describes.

    A name wins over a file; to use a file of such a name, write `./vgg16`. Raises `UnknownModelError` for neither,
    `InvalidModelError` for a file that is no self-describing classifier.
    """
    found = _find(name)
    return read(found) if isinstance(found, Path) else found


def _find(name: str | Path) -> Model | Path:
    if isinstance(name, str):
        if name in known():
            return known()[name]
        if imported := _imported(name):
            return imported
    path = Path(name)
    with suppress(OSError):  # a name too long for a path, a folder that may not be entered
        if path.is_file():
            return path
    names = [*known(), *own()]
    close = difflib.get_close_matches(str(name).lower(), names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UnknownModelError(
        f"no model {str(name)!r}: expected one of {', '.join(names)}, or the path of an ONNX file.{hint}"
    )


def stranger(name: str | Path) -> Path:
    """Return the path of an ONNX file that says nothing of itself: whoever has it must say what it is.

    Raises `UsageError` for what describes itself, and what `resolve` raises for what is no model.
    """
    found = _find(name)
    if isinstance(found, Path):
        if "photolabel.format" not in said(found):
            return found
        read(found)
    raise UsageError(f"{name} describes itself: it has its own labels, so it takes no others.")


def described(path: Path) -> Model | None:
    """Return the model that the weights file at `path` describes in itself, as those of `photolabel export` do.

    It has a spec and a normalisation, and neither a path nor published weights. None for a file that says nothing of
    itself. Raises `InvalidWeightsError` for a description that is broken: the file may be a stranger's.
    """
    if not os.path.isfile(path):  # noqa: PTH113  # pathlib raises for a name that is too long
        raise MissingWeightsError(f"{path}: no such weights file.")
    told = weights.metadata(path)
    # The architecture alone, as of a network without its top, makes no classifier.
    if not any(key.startswith("photolabel.") and not key.endswith((".spec", ".normalisation")) for key in told):
        return None
    try:
        model = parse(told)
    except InvalidModelError as error:
        raise InvalidWeightsError(f"{path.name}: {error}") from None
    if not model.spec or not model.normalisation:
        raise InvalidWeightsError(f"{path.name}: its description (photolabel.* metadata) lacks the network.")
    if not model.spec.top or model.spec.classes != len(model.labels) or model.spec.shape[2] != 3:
        raise InvalidWeightsError(
            f"{path.name}: expected the network of a classifier of photos; it describes one of "
            f"{model.spec.classes} classes, {len(model.labels)} labels and {model.spec.shape[2]} channels"
            f"{'' if model.spec.top else ', without its top'}."
        )
    return model


def agree(model: Model, told: Model) -> bool:
    """Whether `told`, which a weights file says of itself, has the network and the normalisation of `model`."""
    if model.spec is None or told.spec is None:
        return False
    return (replace(told.spec, name=model.spec.name), told.normalisation) == (model.spec, model.normalisation)


def fitting(path: Path) -> Model:
    """Return the model whose network the weights file at `path` is of: what it says itself, or else a known one.

    Known ones are told by their number of convolutions; PyTorch's formats are taken for torchvision's training, with
    its normalisation, and all others for Oxford's. Raises `WeightsMismatchError` for another depth, and what
    `described` and `weights.describe` raise.
    """
    if told := described(path):
        return told
    for spec in (VGG16, VGG19):
        # A file of just these numbers need not be opened to be told: loading the HDF5 library for it would
        # be felt in every warm start. Whether it is what it seems, `weights.read` finds when it makes the artefact.
        if 0 <= path.stat().st_size - 4 * spec.parameters < 2_000_000 and _is_hdf5(path):
            return known()[spec.name.lower()]
    found = weights.describe(path)
    suffix = "-torchvision" if found.format in ("torch", "safetensors") else ""
    depths = {sum(layer.kind == "Conv2D" for layer in spec.layers): spec for spec in (VGG16, VGG19)}
    if found.convolutions not in depths:
        raise WeightsMismatchError(
            f"{path.name}: expected the weights of VGG16 or VGG19, with {' or '.join(map(str, depths))} convolutions; "
            f"this file has {found.convolutions}."
        )
    return known()[depths[found.convolutions].name.lower() + suffix]


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


def with_weights(model: Model, digest: str) -> Model:
    """Return `model` as it is with a user's own weights, whose origin and accuracy nobody published."""
    return replace(
        model,
        source=f"a weights file of the user's own, {digest}",
        licence="unknown: that of the weights file",
        accuracy=None,
        weights=None,
    )


def normalisation_of(path: Path) -> Normalisation:
    """Return what the weights in the file at `path` were trained on: what it says itself, or else what its format does.

    Raises what `weights.metadata` and `weights.describe` raise, and `InvalidModelError` for a broken description.
    """
    if told := network(weights.metadata(path)):
        return told[1]
    return TORCHVISION if weights.describe(path).format in ("torch", "safetensors") else CAFFE
