"""Look inside a network: its summary as a table, and two plots of it. No weights and no network are needed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from ..errors import InvalidModelError, UsageError
from ..layers import Layer, harmless, layers, read
from ..models import Model, known, resolve
from ..spec import Spec
from . import diagram, scene, volumes

__all__ = ["DEFAULT", "plot", "summary"]

DEFAULT = "vgg16"
Network = Model | Spec | str | Path

_STYLES = {"graph": diagram.diagram, "volumes": volumes.volumes}


def _look(model: Network) -> tuple[str, tuple[Layer, ...]]:
    """The name of a network and its layers. An ONNX file needs to say nothing of itself for this."""
    if isinstance(model, Spec):
        return model.name.lower(), layers(model)
    if not isinstance(model, Model) and model not in known():
        path = Path(model)
        with suppress(OSError, ValueError):  # what cannot be a path; `resolve` says so
            if path.is_file():
                return _titled(path), read(path)
    found = model if isinstance(model, Model) else resolve(model)
    return found.name, layers(found)


def _titled(path: Path) -> str:
    """What the file calls its network, or else the file's name."""
    with suppress(InvalidModelError):
        return resolve(path).name
    return path.stem


def summary(model: Network = DEFAULT) -> str:
    """Return a table of a network's layers: name and kind, output shape, parameters; as Keras prints it.

    `model` is a known name, the path of an ONNX file, a Model or a Spec. In a network that is no plain chain a
    last column names what each layer reads. Raises `UnknownModelError` and `InvalidModelError`.
    """
    name, rows = _look(model)
    table = [("Layer (type)", "Output Shape", "Param #", "Connected to")]
    for layer in rows:
        shape = "?" if layer.shape is None else str(layer.shape)
        reads = ", ".join(rows[i].name for i in layer.inputs)
        table.append((f"{layer.name} ({layer.kind})", shape, str(layer.parameters), reads))
    chain = all(layer.inputs == ((i - 1,) if i else ()) for i, layer in enumerate(rows))
    columns = 3 if chain else 4
    widths = [max(len(row[i]) for row in table) for i in range(columns)]
    lines = ["  ".join(f"{row[i]:<{widths[i]}}" for i in range(columns)).rstrip() for row in table]
    total, frozen = sum(layer.parameters for layer in rows), sum(layer.frozen for layer in rows)
    rule = max(map(len, lines))
    return "\n".join(
        [
            f'Model: "{harmless(name)}"',
            "_" * rule,
            lines[0],
            "=" * rule,
            *lines[1:],
            "=" * rule,
            f"Total params: {total:,}",
            f"Trainable params: {total - frozen:,}",
            f"Non-trainable params: {frozen:,}",
        ]
    )


def plot(model: Network, path: str | Path, *, style: Literal["graph", "volumes"] = "graph") -> None:
    """Draw a network into the PNG or SVG file at `path`; its ending says which.

    "graph" is a box for each layer, grouped by blocks, with the shapes on the arrows; "volumes" is the classic
    figure of shrinking volumes. A file that is there already is replaced, once the new one is whole. Raises
    `UsageError` for another ending or style, or a network too large to be drawn, `OutputError` where the file
    cannot be written, and what `summary` raises.
    """
    path = Path(path)
    scene.form_of(path)  # a wrong ending should not wait for the network
    if style not in _STYLES:
        raise UsageError(f"style {style!r}: expected one of {', '.join(_STYLES)}.")
    name, rows = _look(model)
    scene.save(_STYLES[style](scene.fit(harmless(name), 20, 400), rows), path)
