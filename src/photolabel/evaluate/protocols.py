"""The ways in which accuracy on ImageNet is measured, by name, and what was published for each.

Sides of the paper's are those for an input of 224 pixels; for another input they are in proportion.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..models import Model
from .report import Published

_PAPER_SIZE = 224


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network looks at each photo: `recipe`, by default the model's own, `views`, and `sides`.

    `sides` are those of the photo's shorter side, for an input of 224 pixels; none: the recipe's own.
    """

    name: str
    what: str
    recipe: str | None = None
    views: str = "one"
    sides: tuple[int, ...] = ()

    def scales(self, size: int) -> tuple[int, ...]:
        """Return the sides for an input of another size, in pixels."""
        return tuple(round(side * size / _PAPER_SIZE) for side in self.sides)


_JITTERED = (256, 384, 512)  # of the paper's section 4.2, for networks that were trained with scale jitter
PROTOCOLS = {
    each.name: each
    for each in (
        Protocol(name="crop", what="one view: the middle of the photo"),
        Protocol(name="keras", what="one view: the whole photo squashed, by nearest neighbour", recipe="keras"),
        Protocol(name="ten-crop", what="corners and middle, and mirrored", views="ten-crop"),
        Protocol(
            name="single-scale", what="dense at 384 (the paper's Table 3), and mirrored", views="dense", sides=(384,)
        ),
        Protocol(
            name="multi-scale",
            what="dense at 256, 384 and 512 (Table 4), and mirrored",
            views="dense",
            sides=_JITTERED,
        ),
        Protocol(
            name="multi-crop",
            what="a grid of 5 x 5 and mirrored at 256, 384 and 512 (Table 5)",
            views="multi-crop",
            sides=_JITTERED,
        ),
        Protocol(name="dense", what="another name for multi-scale (Table 5)", views="dense", sides=_JITTERED),
        Protocol(
            name="both",
            what="multi-crop and dense, averaged (Table 5)",
            views="multi-crop+dense",
            sides=_JITTERED,
        ),
    )
}

# Simonyan and Zisserman, arXiv 1409.1556: of networks D (VGG16) and E (VGG19), trained with scales from 256 to 512, as
# those that were released.
_TABLES = {
    ("vgg16", "single-scale"): (25.6, 8.1, 3),
    ("vgg19", "single-scale"): (25.5, 8.0, 3),
    ("vgg16", "multi-scale"): (24.8, 7.5, 4),
    ("vgg19", "multi-scale"): (24.8, 7.5, 4),
    ("vgg16", "dense"): (24.8, 7.5, 5),
    ("vgg19", "dense"): (24.8, 7.5, 5),
    ("vgg16", "multi-crop"): (24.6, 7.5, 5),
    ("vgg19", "multi-crop"): (24.6, 7.4, 5),
    ("vgg16", "both"): (24.4, 7.2, 5),
    ("vgg19", "both"): (24.4, 7.1, 5),
    ("vgg16+vgg19", "dense"): (24.0, 7.1, 6),
    ("vgg16+vgg19", "multi-scale"): (24.0, 7.1, 6),
    ("vgg16+vgg19", "multi-crop"): (23.9, 7.2, 6),
    ("vgg16+vgg19", "both"): (23.7, 6.8, 6),
}


def find(name: str) -> Protocol:
    """Return the protocol of that name. Raises UsageError where there is none."""
    if name not in PROTOCOLS:
        raise UsageError(f"protocol {name!r}: expected one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def published(model: Model, protocol: str) -> Published | None:
    """Return what was published for a model by that protocol, None for what nobody published, or not so.

    A model is known by its name: who gives `vgg16` weights of another training compares with the published ones'.
    """
    if protocol == "crop" and model.accuracy is not None:
        top1, top5 = model.accuracy.top1, model.accuracy.top5
        return Published(
            top1=_share(100 - top1), top5=None if top5 is None else _share(100 - top5), source=model.accuracy.source
        )
    found = _TABLES.get((model.name, protocol))
    return found and Published(
        top1=_share(found[0]), top5=_share(found[1]), source=f"arXiv 1409.1556, Table {found[2]}"
    )


def _share(percent: float) -> float:
    """Per cent as they were printed, as a share that is written with as few digits."""
    return round(percent / 100, 6)
