"""Weights files of every format, read as named arrays: one reader a format, none of which runs stored code.

Every reader returns `Arrays`: for each layer that learns, by its name in the spec, the kernel and the bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidWeightsError, WeightsMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ..spec import Spec

    Arrays = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def check(arrays: Arrays, spec: Spec) -> None:
    """Raise unless `arrays` are finite weights of exactly the layers and shapes of `spec`.

    `arrays` maps a layer's name to its kernel, (height, width, in, out) or (in, out), and its bias, (out,), both
    float32. Raises `WeightsMismatchError` for another network's weights, `InvalidWeightsError` for NaN or infinity.
    """
    import numpy as np

    expected = spec.learned
    for name, layer in expected.items():
        if name not in arrays:
            raise WeightsMismatchError(
                f"not the weights of {spec.name}: layer {name} is missing. Expected {len(expected)} layers from "
                f"{next(iter(expected))} to {next(reversed(expected))}, came {len(arrays)}."
            )
        for part, array, shape in zip(("kernel", "bias"), arrays[name], (layer.kernel, layer.bias), strict=True):
            if array.shape != shape:
                raise WeightsMismatchError(
                    f"not the weights of {spec.name}: the {part} of {name} has shape {array.shape}, expected {shape}."
                )
            if not np.isfinite(array).all():
                raise InvalidWeightsError(f"the {part} of {name} holds NaN or infinity: the file is damaged.")
    extra = sorted(set(arrays) - set(expected))
    if extra:
        raise WeightsMismatchError(f"not the weights of {spec.name}: it has no layer {extra[0]}.")
