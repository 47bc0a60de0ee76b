"""Run in a process of its own, on JAX: the gradient of VGG16's head, by Keras' layers and by ours.

Prints {"largest difference, relative": ...}.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ["PHOTOLABEL_OFFLINE"] = "1"
os.environ["PHOTOLABEL_CACHE"] = os.environ["KERAS_HOME"] = tempfile.mkdtemp()

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import photolabel
import photolabel.keras as ours
from photolabel.explain import head_gradient

INDEX = 7
HEAD = ("block5_pool", "flatten", "fc1", "fc2", "predictions")


def main() -> None:
    native = photolabel.VGG16(weights=None, input_shape=(64, 64, 3), classes=11, classifier_activation=None)
    model = ours.VGG16(weights=native.weights, input_shape=(64, 64, 3), classes=11, classifier_activation=None)
    x = np.random.default_rng(0).uniform(-124, 152, (1, 64, 64, 3)).astype(np.float32)
    maps, *hidden = (native.predict(x, layer=name)[0] for name in ("block5_conv3", "fc1", "fc2"))

    def logit(values: jax.Array) -> jax.Array:
        for name in HEAD:
            values = model.get_layer(name)(values)
        return values[0, INDEX]

    theirs = np.asarray(jax.grad(logit)(maps[np.newaxis]))[0]
    found = head_gradient(maps, hidden, native.weights, native.spec, INDEX)
    assert np.abs(theirs).max() > 0
    print(json.dumps({"largest difference, relative": float(np.abs(found - theirs).max() / np.abs(theirs).max())}))


main()
