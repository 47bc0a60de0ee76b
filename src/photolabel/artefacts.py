"""A Model -> its one artefact on this machine: a verified, self-describing ONNX file.

Published weights are looked for where they may lie already (our cache, Keras' folder, PyTorch's), fetched if need be,
turned into ONNX once and then, if they were our own download, thrown away: the ONNX holds the same numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import engine, graph, images, metadata, models, progress, quantize, store, weights
from .errors import (
    InvalidModelError,
    InvalidWeightsError,
    MissingWeightsError,
    OfflineError,
    PhotoError,
    StoreError,
    UsageError,
    WeightsMismatchError,
)
from .models import Model
from .store import Asset

if TYPE_CHECKING:
    from numpy.typing import NDArray


def locate(model: Model, *, weights_file: Path | None = None) -> Path:
    """Return the ONNX file of `model`, making or fetching what is not here yet.

    With `weights_file`, the network gets that file's weights. Raises `MissingWeightsError` where there are no
    weights and no way to get them, other `ModelError` leaves for unusable weights, and `StoreError` leaves for a
    cache that fails.
    """
    if model.path is not None:
        if weights_file is not None:
            raise UsageError(f"{model.name} is an ONNX file that has its weights: it takes no other.")
        if (
            model == models.known().get(models.BUNDLED)
            and store.Store().known_digest(model.path) != models.BUNDLED_DIGEST
        ):
            raise InvalidModelError(
                f"{model.path}: damaged; it came with photolabel. Install photolabel again: "
                "pip install --force-reinstall --no-deps photolabel"
            )
        return model.path
    cache = store.Store()
    if weights_file is not None:
        return _from_users_file(cache, model, weights_file)
    if model.weights is None:
        raise MissingWeightsError(f"{model.name} is no known model: expected a file of its weights (--weights).")
    made = _name(model, model.weights.digest)
    if not cache.check(made):
        with cache.lock(made):  # of several processes one fetches
            if not cache.check(made):
                source = _published(cache, model) or _fetch(cache, model)
                _make(cache, model, source, made, digest=model.weights.digest)
                # The ONNX holds the same numbers: one copy is enough. But Keras' folder may be our cache, and is
                # not ours.
                if source.parent == cache.folder and not is_anothers(cache.folder):
                    cache.remove(source.name)
    return cache.path(made)


def quantized(model: Model, network: Path) -> Path:
    """Return the 8-bit form of `network`, the ONNX file of `model`, made once from the packaged calibration photos.

    Raises `StoreError` where the cache cannot hold it.
    """
    cache = store.Store()
    made = _quantized_name(cache, model, network)
    if not cache.check(made):
        with cache.lock(made), progress.status(f"quantizing {model.name} (once) ..."):
            if not cache.check(made):  # else another process was quicker
                folder = resources.files("photolabel").joinpath("data", "calibration")
                photos = sorted(folder.iterdir(), key=lambda photo: photo.name)
                inputs = [images.prepare(images.read(photo.read_bytes()), model.recipe()) for photo in photos]
                _quantize(cache, made, network, inputs, f"{len(inputs)} photos that came with photolabel")
    return cache.path(made)


def calibrate(model: Model, photos: Sequence[images.Photo]) -> tuple[Path, int]:
    """Make the 8-bit form of `model` anew, its ranges from `photos` of the user's own, and keep it as such.

    Return its file and how many of the photos could not be read. Raises `UsageError` where none can be, for more than
    300, or where the model is in 8 bits already, and what `locate` raises.
    """
    if len(photos) > _MOST_PHOTOS:
        raise UsageError(f"{len(photos)} photos: expected at most {_MOST_PHOTOS}. A handful that differ suffices.")
    network = locate(model)
    described = models.read(network)
    if metadata.read(network).get("photolabel.precision") == "int8":
        raise UsageError(f"{model.name} is in 8-bit integers already: expected a model in fp32.")
    inputs: list[NDArray[np.float32]] = []
    unreadable = 0
    for photo in photos:
        try:
            inputs.append(images.prepare(images.read(photo), described.recipe()))
        except PhotoError:
            unreadable += 1
    if not inputs:
        raise UsageError(f"none of the {unreadable} photos can be read: give at least one that can.")
    cache = store.Store()
    made = _quantized_name(cache, described, network)
    with cache.lock(made), progress.bar(f"quantizing {model.name}", total=len(inputs), unit="photo") as tick:

        def counted() -> Iterator[NDArray[np.float32]]:
            for i, pixels in enumerate(inputs, 1):
                yield pixels
                tick(i, len(inputs))

        _quantize(cache, made, network, counted(), f"{len(inputs)} photos of the user's own")
    return cache.path(made), unreadable


_MOST_PHOTOS = 300  # held at once, prepared: a user may well give a folder of all photos


def _quantized_name(cache: store.Store, model: Model, network: Path) -> str:
    digest = cache.known_digest(network)
    stem = model.name if _PLAIN.fullmatch(model.name) else "network"
    return f"{stem}-{digest.partition(':')[2][:16]}-int8.onnx"


def _quantize(
    cache: store.Store, made: str, network: Path, inputs: Iterable[NDArray[np.float32]], calibration: str
) -> None:
    """Write the 8-bit form of `network` as `made`, whose lock the caller holds."""
    describe = {"photolabel.precision": "int8", "photolabel.calibration": calibration}
    described = quantize.quantize(network, inputs, describe=describe)
    with cache.create(made) as file:
        file.write(described)


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")  # a model's name that may be part of a file's


def available(model: Model) -> bool:
    """Whether `model` can be had without the network."""
    if model.path is not None:
        return True
    assert model.weights
    cache = store.Store()
    return cache.check(_name(model, model.weights.digest)) or _published(cache, model) is not None


def default() -> Model:
    """Return the model that answers when none is named.

    That is the one that PHOTOLABEL_MODEL names; else VGG16 where its weights are on this machine; else the
    bundled one, at once and without a network.
    """
    pinned = os.environ.get("PHOTOLABEL_MODEL")
    if pinned:
        return models.resolve(pinned)
    vgg16 = models.known()["vgg16"]
    return vgg16 if available(vgg16) else models.known()[models.BUNDLED]


def verify(model: Model) -> list[tuple[Path, bool]]:
    """Hash every file of `model` anew; return each with whether it is still what was put there.

    This finds what the check at each start cannot: a byte that changed while size and date stayed. A damaged file of
    the cache is removed, to be made or fetched again at its next use.
    """
    cache = store.Store()
    verdicts: list[tuple[Path, bool]] = []
    if model.name == models.BUNDLED and model.path is not None:
        verdicts.append((model.path, store.digest_of(model.path, "sha256") == models.BUNDLED_DIGEST))
    own = models.own_store()
    if model.path is not None and model.path.parent == own.folder:
        verdicts.append((model.path, own.check(model.path.name, deep=True)))
        if not verdicts[-1][1]:
            own.remove(model.path.name)
    files = _derived(cache)
    # vgg16-torchvision-... begins with vgg16- too.
    longer = tuple(f"{name}-" for name in models.known() if name.startswith(f"{model.name}-"))
    names = [path.name for path in files if path.name.startswith(f"{model.name}-")]
    names = [name for name in names if not name.startswith(longer)]
    if model.weights is not None and cache.path(model.weights.name).exists():
        names.append(model.weights.name)
    verdicts += [(cache.path(name), _sound(cache, name)) for name in sorted(names)]
    return verdicts


def verify_others(seen: Collection[Path]) -> list[tuple[Path, bool]]:
    """Do the same for what else is in the cache: files of a user's own networks and weights."""
    cache = store.Store()
    return [(path, _sound(cache, path.name)) for path in sorted(_derived(cache)) if path not in seen]


def _derived(cache: store.Store) -> list[Path]:
    return [path for path in cache.folder.glob("*") if path.suffix in (".onnx", engine.BLOB)]


def _sound(cache: store.Store, name: str) -> bool:
    sound = cache.check(name, deep=True)
    if not sound:
        cache.remove(name)
    return sound


def published_name(model: Model) -> str:
    """Return the name in the cache of what is made from the published weights of `model`."""
    assert model.weights
    return _name(model, model.weights.digest)


def others_copy(model: Model) -> Path | None:
    """Return Keras' or PyTorch's own copy of the published weights where one of the right size is; it is not read."""
    assert model.weights
    path = _others_folder(model.weights) / model.weights.name
    try:
        return path if path.stat().st_size == model.weights.size else None
    except OSError:
        return None


def import_weights(model: Model, weights_file: Path, *, into: store.Store, name: str) -> None:
    """Write the network of `model` with a user's own weights into the store `into` as `name`."""
    digest = _digest_of_users(store.Store(), weights_file)
    _make(into, _given(model, weights_file, digest), weights_file, name, digest=digest)


def _name(model: Model, digest: str) -> str:
    return f"{model.name}-{digest.partition(':')[2][:16]}.onnx"


def _published(cache: store.Store, model: Model) -> Path | None:
    """The published weights file where it lies on this machine already, its hash checked."""
    assert model.weights
    found = cache.find(model.weights)
    if found is not None:
        return found
    try:
        path = others_copy(model)
        algorithm = model.weights.digest.partition(":")[0]
        return path if path and cache.known_digest(path, algorithm) == model.weights.digest else None
    except StoreError:
        return None


def _others_folder(asset: Asset) -> Path:
    """Where Keras, or PyTorch, keeps the same file."""
    if asset.name.endswith(".pth"):
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = f"{os.environ.get('TORCH_HOME') or f'{cache}/torch'}/hub/checkpoints"
    else:
        folder = f"{os.environ.get('KERAS_HOME') or '~/.keras'}/models"
    return Path(os.path.abspath(os.path.expanduser(folder)))  # noqa: PTH100, PTH111  # pathlib raises without a home


def is_anothers(folder: Path) -> bool:
    """Whether `folder` is the one in which Keras or PyTorch keeps weights, by whatever links it is reached."""
    for model in models.known().values():
        try:
            if model.weights and folder.samefile(_others_folder(model.weights)):
                return True
        except OSError:  # one of them is not there
            continue
    return False


def _fetch(cache: store.Store, model: Model) -> Path:
    assert model.weights
    try:
        with progress.bar(f"downloading {model.name}", total=model.weights.size) as tick:
            return cache.fetch(model.weights, progress=tick)
    except OfflineError:
        raise MissingWeightsError(
            f"the weights of {model.name} are not on this machine, and PHOTOLABEL_OFFLINE forbids to fetch them: "
            f"run once without it, or give them with --weights FILE."
        ) from None


def _from_users_file(cache: store.Store, model: Model, path: Path) -> Path:
    digest = _digest_of_users(cache, path)
    given = _given(model, path, digest)
    # A model that a file describes may call itself anything, vgg16 too.
    made = _name(model, digest) if model.weights else f"described-{digest.partition(':')[2][:16]}.onnx"
    if not cache.check(made):
        _make(cache, given, path, made, digest=digest)
    return cache.path(made)


def _given(model: Model, path: Path, digest: str) -> Model:
    """Return `model` with a user's own weights; they may say themselves what they are, and are held to it."""
    told = models.described(path)  # only now: what is found later to have that hash said this
    if model.weights is None:
        if told is None:
            raise InvalidWeightsError(f"{path}: it was changed while it was read. Try again.")
        return replace(told, name=model.name)
    if told and not models.agree(model, told):
        raise WeightsMismatchError(
            f"{path.name}: not weights for {model.name}: the file says that it is of another network, or takes its "
            "pixels otherwise. Leave --model out, and it is used as it says."
        )
    return models.with_weights(model, digest)


def _digest_of_users(cache: store.Store, path: Path) -> str:
    if not os.path.isfile(path):  # noqa: PTH113  # pathlib raises for a name that is too long
        raise MissingWeightsError(f"{path}: no such weights file.")
    if "th_dim_ordering" in path.name or "th_kernels" in path.name:
        raise InvalidWeightsError(
            f"{path.name}: these kernels are in Theano's order. Expected the file whose name has "
            "tf_dim_ordering_tf_kernels."
        )
    return cache.known_digest(path)


def _make(cache: store.Store, model: Model, source: Path, made: str, *, digest: str) -> None:
    """Write the ONNX file `made` from the weights file `source`, which must have and keep the hash `digest`."""
    assert model.spec and model.normalisation
    with cache.lock(made):
        if cache.check(made):  # another process was quicker
            return
        with progress.status(f"preparing {model.name} (once) ..."):
            arrays = weights.read(source, model.spec)
            # A training run may write its best weights anew at any time: then these are not those that were hashed.
            if store.Store().known_digest(source, digest.partition(":")[0]) != digest:
                raise InvalidWeightsError(f"{source}: it was changed while it was read. Try again.")
            with cache.create(made) as file:
                for chunk in graph.build(model.spec, arrays, model.normalisation, describe=model.describe()):
                    file.write(chunk)
            if not cache.check(made, deep=True):
                cache.remove(made)
                raise StoreError(f"{cache.path(made)}: read back, it is not what was written. Is the disk failing?")
