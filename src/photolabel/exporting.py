"""A model, or a spec and its weights -> a file that other programs take: ONNX Runtime, Keras, PyTorch.

`FORMS` is the one table of what can be written, by the file's ending.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from . import artefacts, graph, metadata, models, progress, weights, writing
from .errors import InvalidModelError, UsageError
from .models import CAFFE, Model, Normalisation
from .records import CHUNK
from .spec import Spec

if TYPE_CHECKING:
    from .weights import Arrays

Chunks: TypeAlias = Iterable[bytes | memoryview]
Told: TypeAlias = Callable[[Chunks], Iterator[bytes | memoryview]]  # the same chunks; whoever waits is told of them


@dataclass(frozen=True, kw_only=True)
class Network:
    """All that a file is made of. Without `normalisation` its input is what Keras' `preprocess_input` makes."""

    spec: Spec
    arrays: Arrays
    normalisation: Normalisation | None
    describe: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of file: what it is, and what writes it. Files of `keras` have no room for a normalisation."""

    title: str
    write: Callable[[BinaryIO, Network, Told], None]
    keras: bool = False


def _onnx(file: BinaryIO, network: Network, told: Told) -> None:
    chunks = graph.build(network.spec, network.arrays, network.normalisation, describe=network.describe)
    file.writelines(told(chunks))


def _safetensors(file: BinaryIO, network: Network, told: Told) -> None:
    from .weights import layouts, safetensors

    if network.normalisation and network.normalisation.order == "RGB" and network.spec.shape[2] == 3:
        network = _blue_first(network)
    stored = layouts.stored(network.arrays, network.spec, layouts.TORCHVISION)
    file.writelines(told(safetensors.build(stored, {"format": "pt", **network.describe})))


def _keras_weights(file: BinaryIO, network: Network, told: Told) -> None:
    from .weights import keras3_file

    file.writelines(told(keras3_file.weights(network.spec, network.arrays)))


def _keras(file: BinaryIO, network: Network, told: Told) -> None:
    from .weights import keras3_file

    numbers = told(keras3_file.weights(network.spec, network.arrays))
    keras3_file.archive(file, network.spec, numbers, _size(network.spec), network.describe)


FORMS = {
    ".onnx": Form(title="ONNX", write=_onnx),
    ".keras": Form(title="Keras model", write=_keras, keras=True),
    ".weights.h5": Form(title="Keras weights", write=_keras_weights, keras=True),
    ".safetensors": Form(title="safetensors in torchvision's layout", write=_safetensors),
}


def export(model: str | Path | Model, out: str | Path, *, precision: str = "fp32") -> Path:
    """Write a model into the file `out`, in the form that its ending says, and return its path.

    `.onnx`: the network that takes RGB pixels, gives probabilities and carries its labels; of every model, and with
    `precision` "int8" in 8-bit integers. `.keras`: Keras' own VGG, for `keras.models.load_model`, whose input is what
    `preprocess_input` makes; `.weights.h5` its weights alone, for `load_weights`. `.safetensors`: weights under
    torchvision's names, with all that the model says of itself; photolabel takes it as `weights`.

    `model` is a name, the path of an ONNX file that describes itself, or a Model; one that is not here is downloaded.
    A file that is there already is replaced, once the new one is whole. Raises `UsageError` for what that form cannot
    hold, `OutputError` where the file cannot be written, and a `ModelError` or `StoreError` where there is no model to
    be had.
    """
    out = Path(out)
    ending, form = of(out)
    if precision not in ("fp32", "int8"):
        raise UsageError(f"precision {precision!r}: expected fp32 or int8.")
    if precision == "int8" and ending != ".onnx":
        raise UsageError(f"{out}: int8 can be written as .onnx only.")
    writing.check(out)
    found = model if isinstance(model, Model) else models.resolve(model)
    if ending != ".onnx":
        _check(found, ending, form)  # before it is downloaded
    network = artefacts.locate(found)
    _check_place(out, network)
    if ending != ".onnx":
        if metadata.read(network).get("photolabel.precision") == "int8":
            raise UsageError(f"{found.name} is an 8-bit network: it can be written as .onnx only.")
        assert found.spec
        arrays = graph.arrays(network, found.spec)
        _write(
            Network(spec=found.spec, arrays=arrays, normalisation=found.normalisation, describe=found.describe()), out
        )
        return out
    if precision == "int8" and metadata.read(network).get("photolabel.precision") != "int8":
        network = artefacts.quantized(found, network)
        _check_place(out, network)
    _copy(network, out)
    return out


def write(
    spec: Spec,
    arrays: Arrays,
    out: Path,
    *,
    normalisation: Normalisation | None = None,
    describe: Mapping[str, str] | None = None,
) -> None:
    """Write the network of `spec` with the weights `arrays` into `out`, in the form that its ending says.

    `arrays` are as `weights.read` returns them: (kernel, bias) by layer, float32, as Keras has them. Without
    `normalisation` the network's input is what Keras' `preprocess_input` makes. `describe` goes with it where the form
    has room for it (`Model.describe` makes one). Raises `UsageError` for an ending or a normalisation that cannot be,
    `WeightsMismatchError` and `InvalidWeightsError` for weights that are none of `spec`, and `OutputError`.
    """
    ending, form = of(out)
    if form.keras and normalisation not in (None, CAFFE):
        raise _needs_caffe(spec.name, ending)
    weights.check(arrays, spec)
    _write(Network(spec=spec, arrays=arrays, normalisation=normalisation, describe=describe or {}), out)


def of(out: Path) -> tuple[str, Form]:
    """Return the ending of `out` and the form that it stands for. Raises `UsageError` for any other."""
    for ending, form in FORMS.items():
        if out.name.lower().endswith(ending) and len(out.name) > len(ending):
            return ending, form
    raise UsageError(f"{out}: expected a file that ends in one of {', '.join(FORMS)}.")


def _check(model: Model, ending: str, form: Form) -> None:
    if model.spec is None or model.normalisation is None:
        raise UsageError(f"{model.name} is not of the VGG family, or does not say so: it can be written as .onnx only.")
    if form.keras and model.normalisation != CAFFE:
        raise _needs_caffe(model.name, ending)


def _needs_caffe(name: str, ending: str) -> UsageError:
    able = ", ".join(each for each, form in FORMS.items() if not form.keras)
    return UsageError(
        f"{name} cannot be written as {ending}: whoever loads that into Keras makes its input by Oxford's rule "
        f"(preprocess_input), and this model was trained by another. Forms that carry its own: {able}."
    )


def _check_place(out: Path, network: Path) -> None:
    try:
        same = out.samefile(network)
    except OSError:  # not there yet
        return
    if same:
        raise UsageError(f"{out} is the very file that the model is read from: choose another.")


def _write(network: Network, out: Path) -> None:
    _, form = of(out)
    with progress.bar(f"writing {out.name}", total=_size(network.spec)) as tick, writing.whole(out) as file:
        form.write(file, network, functools.partial(_told, tick=tick, total=_size(network.spec)))


def _copy(network: Path, out: Path) -> None:
    def chunks() -> Iterator[bytes]:
        try:
            with network.open("rb") as source:
                while data := source.read(CHUNK):
                    yield data
        except OSError as error:
            raise InvalidModelError(f"{network}: cannot be read: {error.strerror}.") from None

    total = network.stat().st_size
    with progress.bar(f"writing {out.name}", total=total) as tick, writing.whole(out) as file:
        file.writelines(_told(chunks(), tick=tick, total=total))


def _told(chunks: Chunks, *, tick: Callable[[int, int], None], total: int) -> Iterator[bytes | memoryview]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        tick(min(done, total), total)  # what is no number of the network's counts for nothing


def _size(spec: Spec) -> int:
    return 4 * spec.parameters


def _blue_first(network: Network) -> Network:
    """The same network with the inputs of its first kernel, and its normalisation, in the order that readers expect.

    All readers of `weights` take a file of torchvision's for one that has red first, and turn it.
    """
    assert network.normalisation
    first = next(iter(network.spec.learned))
    kernel, bias = network.arrays[first]
    of = network.normalisation
    turned = Normalisation(order="BGR", mean=of.mean[::-1], deviation=of.deviation[::-1])
    describe = dict(network.describe)
    if "photolabel.normalisation" in describe:
        describe["photolabel.normalisation"] = json.dumps(asdict(turned), separators=(",", ":"))
    arrays = {**network.arrays, first: (kernel[:, :, ::-1], bias)}
    return replace(network, arrays=arrays, normalisation=turned, describe=describe)
