"""The names of the classic Keras script, with Keras' signatures and results but none of Keras' imports.

The script runs with its import lines changed::

    from photolabel.keras_compat import VGG16, decode_predictions, img_to_array, load_img, preprocess_input

    model = VGG16()
    image = img_to_array(load_img("mug.jpg", target_size=(224, 224)))
    image = preprocess_input(image.reshape((1, *image.shape)))
    label = decode_predictions(model.predict(image))[0][0]
    print("%s (%.2f%%)" % (label[1], label[2] * 100))

Like Keras, and unlike the rest of photolabel, `load_img` leaves photos as their pixels are stored: neither turned
upright nor converted from their colour profile. For what is right rather than the same, use `photolabel.classify`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import draw, images, labels, models, spec, vgg
from .errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray
    from PIL import Image

    from .spec import Layer
    from .vgg import Activation, Pooling, Shape, Weights

__all__ = [
    "VGG16",
    "VGG19",
    "Model",
    "decode_predictions",
    "img_to_array",
    "load_img",
    "plot_model",
    "preprocess_input",
]

Format = Literal["channels_last", "channels_first"] | None


class Model(vgg.VGG):
    """A `photolabel.vgg.VGG` whose `predict` and `summary` are called as Keras' are."""

    def predict(  # type: ignore[override]
        self,
        x: ArrayLike,
        batch_size: int | None = None,
        verbose: object = "auto",
        steps: None = None,
        callbacks: None = None,
    ) -> NDArray[np.float32]:
        """Return what the network makes of `x`; see `photolabel.vgg.VGG.predict`. `verbose` is Keras' and ignored.

        Raises `UsageError` for `steps` and `callbacks`, which are for data sets of Keras' own.
        """
        if steps is not None or callbacks is not None:
            raise UsageError("predict takes no steps and no callbacks here: give it an array, or use photolabel.keras.")
        return super().predict(x, batch_size=32 if batch_size is None else batch_size)

    def __call__(self, x: ArrayLike) -> NDArray[np.float32]:
        """Return what the network makes of `x`, as an array."""
        return self.predict(x)

    def summary(self, print_fn: Callable[[str], object] | None = None) -> None:  # type: ignore[override]
        """Print the table of layers, or hand it to `print_fn`. Return None, as Keras does."""
        (print_fn or print)(super().summary())

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return one of `layers` by its name or its place. Raises `UsageError` for neither."""
        found = [layer for i, layer in enumerate(self.layers) if name == layer.name or (name is None and index == i)]
        if not found:
            raise UsageError(f"no layer {name!r} at {index!r}. There are: {', '.join(x.name for x in self.layers)}.")
        return found[0]


def VGG16(  # noqa: N802  # Keras' name
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: None = None,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
    name: str = "vgg16",
) -> Model:
    """Return VGG16 with the arguments of `keras.applications.VGG16`; see `photolabel.VGG16` for what they do.

    Raises `UsageError` for an `input_tensor`, which only Keras has: `photolabel.keras.VGG16` takes one.
    """
    made = (include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation)
    return _model(spec.VGG16, *made)


def VGG19(  # noqa: N802
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: None = None,
    input_shape: Shape | None = None,
    pooling: Pooling = None,
    classes: int = 1000,
    classifier_activation: Activation = "softmax",
    name: str = "vgg19",
) -> Model:
    """Return VGG19; everything else as in `VGG16`."""
    made = (include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation)
    return _model(spec.VGG19, *made)


def _model(
    family: spec.Spec,
    include_top: bool,
    weights: Weights,
    input_tensor: object,
    input_shape: Shape | None,
    pooling: Pooling,
    classes: int,
    classifier_activation: Activation,
) -> Model:
    if input_tensor is not None:
        raise UsageError("input_tensor is a tensor of Keras' own: use photolabel.keras, which makes true Keras models.")
    made = vgg.configured(
        family,
        include_top=include_top,
        weights=weights,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
    )
    return vgg.loaded(made, weights, kind=Model)


def load_img(
    path: str | os.PathLike[str] | bytes | io.BytesIO,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Image.Image:
    """Return a photo as a PIL image, with the pixels that `keras.utils.load_img` gives.

    `path` is that of a file, or a BytesIO. `color_mode` is "rgb", "rgba" or "grayscale"; `target_size` is (height,
    width); `interpolation` is one of nearest, box, bilinear, hamming, bicubic, lanczos. `keep_aspect_ratio` cuts the
    middle out instead of squashing. A photo that is broken, too large or no photo raises a `PhotoError`, where Keras
    may return half of it.
    """
    if not isinstance(path, str | bytes | os.PathLike | io.BytesIO):
        raise TypeError(f"path should be path-like or io.BytesIO, not {type(path).__name__}")
    if color_mode not in _MODES:
        raise UsageError(f"color_mode {color_mode!r}: expected grayscale, rgb or rgba.")
    image = images.stored(os.fsdecode(path) if isinstance(path, bytes) else path)
    if image.mode not in _MODES[color_mode]:
        image = image.convert(_MODES[color_mode][0])
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    if interpolation not in images.FILTERS:
        raise UsageError(f"interpolation {interpolation!r}: expected one of {', '.join(images.FILTERS)}.")
    wanted = height, width = target_size[0], target_size[1]
    box = None
    if keep_aspect_ratio:
        high = min(image.height, image.width * height // width)
        wide = min(image.width, image.height * width // height)
        top, left = (image.height - high) // 2, (image.width - wide) // 2
        box = (left, top, left + wide, top + high)
    return image.resize(wanted[::-1], images.FILTERS[interpolation], box=box)


# What Keras converts to each mode, and the modes that it leaves.
_MODES = {"grayscale": ("L", "I;16", "I"), "rgb": ("RGB",), "rgba": ("RGBA",)}


def img_to_array(img: Image.Image, data_format: Format = None, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return a PIL image as an array (height, width, channels), or (channels, height, width), 0..255.

    `dtype` is by default float32.
    """
    x = np.asarray(img, dtype=np.float32 if dtype is None else dtype)
    if x.ndim not in (2, 3):
        raise UsageError(f"expected an image; got an array of shape {x.shape}.")
    if x.ndim == 2:
        x = x[..., np.newaxis]
    return x.transpose(2, 0, 1) if _is_first(data_format) else x


def preprocess_input(x: ArrayLike, data_format: Format = None) -> NDArray[Any]:
    """Return RGB pixels 0..255 as the VGGs of Keras want them: blue, green, red less ImageNet's mean colour.

    `x` is (height, width, 3) or (N, height, width, 3), or with "channels_first" (..., 3, height, width). Integers
    become float32, floats keep their type. Keras writes into a float array that it is given; this does not.
    """
    array = np.asarray(x)
    array = array.astype(np.float32) if array.dtype.kind != "f" else array
    axis = -3 if _is_first(data_format) else -1
    if array.ndim not in (3, 4) or array.shape[axis] != 3:
        raise UsageError(f"expected photos of three channels; got an array of shape {array.shape}.")
    result = np.flip(array, axis).copy()
    mean = np.array(models.CAFFE.mean).astype(array.dtype)
    result -= mean.reshape(3, 1, 1) if axis == -3 else mean
    return result


def decode_predictions(preds: ArrayLike, top: int = 5) -> list[list[tuple[str, str, np.float32]]]:
    """Return, for each row of probabilities (N, 1000), the likeliest classes: (WordNet id, name, probability).

    Raises `UsageError` for an array of another shape.
    """
    array = np.asarray(preds)
    if array.ndim != 2 or array.shape[1] != len(labels.imagenet()):
        raise UsageError(f"expected predictions of shape (N, 1000); got {array.shape}.")
    names = labels.imagenet()
    decoded = []
    for row in array:
        # Keras' own order where several are equal.
        best = row.argsort()[-top:][::-1]
        best = best[np.argsort(-row[best], kind="stable")]
        decoded.append([(str(names[i].wnid), names[i].name, row[i]) for i in best])
    return decoded


def plot_model(
    model: vgg.VGG,
    to_file: str | os.PathLike[str] = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> None:
    """Draw a network into the PNG or SVG file `to_file`; see `photolabel.plot`.

    The picture is photolabel's own, which always shows names and shapes; Keras' other arguments are taken and ignored.
    """
    draw.plot(model.spec, os.fspath(to_file))


def _is_first(data_format: Format) -> bool:
    if data_format not in (None, "channels_last", "channels_first"):
        raise UsageError(f"data_format {data_format!r}: expected channels_last or channels_first.")
    return data_format == "channels_first"
