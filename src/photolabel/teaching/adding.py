"""What a network was taught before, so that more can be taught without computing the old features again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import metadata, models, taught
from ..errors import InvalidModelError, UsageError, WeightsMismatchError
from ..taught import Known, Origin, Taught

if TYPE_CHECKING:
    from .backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A taught network's classes, in the order of its labels, how it was taught, and the photos it was taught with."""

    labels: tuple[str, ...]
    taught: Taught
    examples: tuple[Known, ...]


def earlier(path: Path) -> Earlier:
    """Return what the network in the file at `path` was taught.

    Raises UsageError for a network that was not taught, or whose file does not list its photos, and
    `InvalidModelError` for a file that is broken.
    """
    model, found = models.read(path), metadata.read(path)
    try:
        how = taught.parse(found)
        if how is None:
            raise UsageError(f"{path}: it was not taught by photolabel, so nothing can be added to it.")
        examples = taught.examples(found, how)
        if len(how.counts) != len(model.labels):
            raise InvalidModelError(f"it has {len(model.labels)} labels, but was taught {len(how.counts)} classes.")
    except InvalidModelError as error:
        raise InvalidModelError(f"{path}: {error}") from None
    if how.kind == taught.TUNED:
        raise UsageError(
            f"{path}: it was fine-tuned, network and head together, on just these photos: teach anew, with all photos."
        )
    if not examples:
        raise UsageError(f"{path}: it does not list the photos that it was taught with: teach anew, with all photos.")
    return Earlier(labels=tuple(label.name for label in model.labels), taught=how, examples=examples)


def check_backbone(wanted: Origin, backbone: Backbone) -> None:
    """Raise `WeightsMismatchError` unless `backbone` is what `wanted` says, in all that features depend on."""
    have = backbone.origin
    told = (
        ("network", f"{wanted.name}, {wanted.network}", f"{have.name}, {have.network}", wanted.network == have.network),
        ("layer", wanted.layer, have.layer, wanted.layer == have.layer),
        ("recipe", str(wanted.recipe), str(have.recipe), wanted.recipe == have.recipe),
        ("precision", wanted.precision, have.precision, wanted.precision == have.precision),
    )
    for what, want, came, alike in told:
        if not alike:
            raise WeightsMismatchError(
                f"this head is for another backbone: its {what} is {want}; this one's is {came}. Give the one that it "
                "was taught on, or teach anew, with all photos."
            )
