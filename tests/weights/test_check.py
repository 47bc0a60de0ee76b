"""Whatever the format: weights fit the network exactly, and are finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from photolabel import weights
from photolabel.errors import InvalidWeightsError, WeightsMismatchError

from oracle import TINY, he_normal


def test_right_weights_pass_in_any_order_and_are_not_changed() -> None:
    arrays = dict(reversed(he_normal(TINY).items()))
    weights.check(arrays, TINY)
    for name, pair in he_normal(TINY).items():
        for array, expected in zip(arrays[name], pair, strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("name", ["block1_conv1", "block2_conv2", "fc1", "predictions"])
def test_a_missing_layer_is_named(name: str) -> None:
    arrays = he_normal(TINY)
    del arrays[name]
    with pytest.raises(WeightsMismatchError, match=f"TinyVGG: layer {name} is missing.*9 layers.*came 8"):
        weights.check(arrays, TINY)


def test_no_layers_at_all_are_a_mismatch() -> None:
    with pytest.raises(WeightsMismatchError, match="from block1_conv1 to predictions, came 0"):
        weights.check({}, TINY)


def test_an_extra_layer_is_named() -> None:
    arrays: dict[str, Any] = he_normal(TINY)
    with pytest.raises(WeightsMismatchError, match="no layer fc3"):
        weights.check({**arrays, "fc3": arrays["fc2"]}, TINY)


@pytest.mark.parametrize("part", [0, 1], ids=["kernel", "bias"])
@pytest.mark.parametrize("name", ["block1_conv1", "fc2"])
def test_a_wrong_shape_is_named(name: str, part: int) -> None:
    arrays = he_normal(TINY)
    pair = list(arrays[name])
    pair[part] = pair[part][..., :-1]
    arrays[name] = (pair[0], pair[1])
    with pytest.raises(WeightsMismatchError, match=f"{('kernel', 'bias')[part]} of {name} has shape .* expected"):
        weights.check(arrays, TINY)


def test_kernels_in_another_order_are_a_mismatch() -> None:
    """OIHW, as PyTorch and Caffe have them."""
    arrays = he_normal(TINY)
    kernel, bias = arrays["block1_conv1"]
    arrays["block1_conv1"] = (kernel.transpose(3, 2, 0, 1), bias)
    with pytest.raises(WeightsMismatchError, match="expected \\(3, 3, 3, 8\\)"):
        weights.check(arrays, TINY)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", [0, 1], ids=["kernel", "bias"])
@pytest.mark.parametrize("name", ["block1_conv1", "predictions"])
def test_one_number_that_is_not_finite_is_refused(name: str, part: int, value: float) -> None:
    arrays = he_normal(TINY)
    arrays[name][part].flat[-1] = value
    with pytest.raises(InvalidWeightsError, match=f"{('kernel', 'bias')[part]} of {name} holds NaN or infinity"):
        weights.check(arrays, TINY)
