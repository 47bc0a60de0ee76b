"""Run in a process of its own: what Keras itself does with arguments, photos and pictures.

usage: keras_family.py OUT_FOLDER PHOTO ...

Writes OUT_FOLDER/checks.json, one verdict a row of `family_cases.CHECKS`: "ValueError", "fetch" (all is well, and it
would download) or the output's shape; and OUT_FOLDER/arrays.npz, the results of `family_cases.IMAGES` for each photo.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from keras.applications.vgg16 import decode_predictions, preprocess_input
from keras.src.applications import imagenet_utils, vgg16, vgg19

sys.path.insert(0, str(Path(__file__).parent))
import family_cases

CLASS_INDEX = Path(sys.argv[1]) / "imagenet_class_index.json"


class FetchError(Exception):
    pass


def get_file(name: str, *args: object, **kwargs: object) -> str:
    if name == CLASS_INDEX.name:
        return str(CLASS_INDEX)
    raise FetchError


def verdict(case: dict[str, object]) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in case.items() if k != "family"}
            made = {"VGG16": vgg16.VGG16, "VGG19": vgg19.VGG19}[str(case["family"])](**arguments)
    except ValueError:
        return "ValueError"
    except FetchError:
        return "fetch"
    return list(made.output_shape)


def main(folder: str, *photos: str) -> None:
    vgg16.file_utils.get_file = vgg19.file_utils.get_file = imagenet_utils.file_utils.get_file = get_file
    verdicts = [verdict(case) for case in family_cases.CHECKS]
    (Path(folder) / "checks.json").write_text(json.dumps(verdicts))
    arrays = {}
    for i, photo in enumerate(photos):
        for j, options in enumerate(family_cases.IMAGES):
            loaded = keras.utils.load_img(photo, **options)
            array = keras.utils.img_to_array(loaded)
            arrays[f"{i}/{j}/array"] = array
            arrays[f"{i}/{j}/first"] = keras.utils.img_to_array(loaded, data_format="channels_first", dtype="float64")
            if array.shape[-1] == 3:
                arrays[f"{i}/{j}/input"] = preprocess_input(array.copy())
                arrays[f"{i}/{j}/batch"] = preprocess_input(array[np.newaxis].astype(np.uint8))
                turned = array.transpose(2, 0, 1).astype(np.float64)
                arrays[f"{i}/{j}/input first"] = preprocess_input(turned.copy(), data_format="channels_first")
    np.savez(Path(folder) / "arrays.npz", **arrays)
    decoded = [
        [[[*x[:2], float(x[2])] for x in row] for row in decode_predictions(answers, top=top)]
        for answers, top in family_cases.predictions()
    ]
    (Path(folder) / "decoded.json").write_text(json.dumps(decoded))


if __name__ == "__main__":
    main(*sys.argv[1:])
