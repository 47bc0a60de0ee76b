"""What a network was taught before, so that more can be taught without computing the old features again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import metadata, models, taught
from ..errors import InvalidModelError, UsageError, WeightsMismatchError
from ..member import Network
from ..taught import Known, Origin, Taught
from .backbone import Backbone

if TYPE_CHECKING:
    from ..models import Model


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A taught network, how it was taught, and the photos it was taught with; `stored` is its file's own precision."""

    path: Path
    model: Model
    taught: Taught
    examples: tuple[Known, ...]
    stored: str = "fp32"

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes, in their order."""
        return tuple(label.name for label in self.model.labels)

    def backbone(self, *, threads: int | None = None, engine: str = "openvino") -> Backbone:
        """Return the frozen network under the head, read from the file itself, where all of it still is.

        What the file says of it is not believed: features that are kept under the name of one network must not be
        another's. Raises UsageError for one that was made into 8-bit integers after it was taught, since features
        would be others, and `WeightsMismatchError` for one that is not what it says.
        """
        origin = self.taught.origin
        if (self.stored == "int8") != (origin.precision == "int8"):
            raise UsageError(
                f"{self.path}: it was made into 8-bit integers after it was taught. Add to the one that it was made "
                "from, or teach anew, with all photos."
            )
        found = Backbone(
            model=replace(self.model, name=origin.name),
            network=Network(path=self.path, precision=origin.precision, threads=threads, runtime=engine),
            layer=origin.layer,
            recipe=origin.recipe,
        )
        if found.origin != origin:
            raise WeightsMismatchError(
                f"{self.path}: the network in it is not the one that it says it was taught on: expected "
                f"{origin.network} at {origin.precision}, found {found.origin.network} at {found.precision}. It was "
                "changed after it was taught: add to the original, or teach anew, with all photos."
            )
        return found


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
    stored = found.get("photolabel.precision", "fp32")
    return Earlier(path=path, model=model, taught=how, examples=examples, stored=stored)


def check_backbone(wanted: Origin, backbone: Backbone) -> None:
    """Raise `WeightsMismatchError` unless `backbone` is what `wanted` says, in all that features depend on."""
    have = backbone.origin
    told = (
        ("layer", wanted.layer, have.layer, wanted.layer == have.layer),
        ("network", f"{wanted.name}, {wanted.network}", f"{have.name}, {have.network}", wanted.network == have.network),
        ("recipe", str(wanted.recipe), str(have.recipe), wanted.recipe == have.recipe),
        ("precision", wanted.precision, have.precision, wanted.precision == have.precision),
    )
    for what, want, came, alike in told:
        if not alike:
            raise WeightsMismatchError(
                f"this head is for another backbone: its {what} is {want}; this one's is {came}. Give the one that it "
                "was taught on, or teach anew, with all photos."
            )


def check_options(
    found: Earlier, *, layer: str | None, recipe: str | None, views: str | None, precision: str | None
) -> None:
    """Raise UsageError if one of them, None where it was not given, is another than what `found` was taught with."""
    origin = found.taught.origin
    told = (
        ("layer", origin.layer, layer),
        ("recipe", origin.recipe.name, recipe),
        ("views", origin.recipe.views, views),
        ("precision", origin.precision, precision),
    )
    for what, want, came in told:
        if came is not None and came != want:
            raise UsageError(
                f"{found.path} was taught with {what} {want}, not {came}, and what is added must be looked at in the "
                f"same way: leave {what} out, or teach anew, with all photos."
            )
