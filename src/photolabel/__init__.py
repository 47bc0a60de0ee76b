"""photolabel names what is in a photograph.

>>> import photolabel
>>> print(photolabel.classify("samples/coffee.jpg"))        # one photo, for a first look
>>> with photolabel.load("vgg16") as classifier:            # many photos: load once
...     for prediction in classifier.classify_many(paths):
...         print(prediction.photo, prediction.top.name, prediction.top.probability)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> room. Loaded at first use, so that `import photolabel` and `photolabel --help` come at once.
_ROOMS = {
    "Answer": "answer",
    "Classifier": "classifier",
    "Limits": "images",
    "PhotolabelError": "errors",
    "Prediction": "prediction",
    "RankedLabel": "prediction",
    "VGG11": "vgg",
    "VGG13": "vgg",
    "VGG16": "vgg",
    "VGG16C": "vgg",
    "VGG19": "vgg",
    "classify": "loading",
    "classify_folder": "batch",
    "errors": "errors",
    "export": "exporting",
    "load": "loading",
    "plot": "draw",
    "summary": "draw",
    "teach": "teaching",
}

if TYPE_CHECKING:
    from . import errors
    from .answer import Answer
    from .batch import classify_folder
    from .classifier import Classifier
    from .draw import plot, summary
    from .errors import PhotolabelError
    from .exporting import export
    from .images import Limits
    from .loading import classify, load
    from .prediction import Prediction, RankedLabel
    from .teaching import teach
    from .vgg import VGG11, VGG13, VGG16, VGG16C, VGG19

__all__ = [
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG16C",
    "VGG19",
    "Answer",
    "Classifier",
    "Limits",
    "PhotolabelError",
    "Prediction",
    "RankedLabel",
    "__version__",
    "classify",
    "classify_folder",
    "errors",
    "export",
    "load",
    "plot",
    "summary",
    "teach",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'photolabel' has no attribute {name!r}")
    module = importlib.import_module(f".{_ROOMS[name]}", __name__)
    value = module if name == _ROOMS[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
