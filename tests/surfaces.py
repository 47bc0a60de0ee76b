"""Photos of all kinds, good and bad, and what the library says of each: what every other surface is held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import photolabel
import test_hard_images
from photolabel.classifier import Classifier
from photolabel.images import DEFAULT_LIMITS
from photolabel.models import BUNDLED
from photolabel.server import Settings

from conftest import ROOT
from pictures import CORE, JPEG, bombs, encoded, exif_block, picture

SURE = 0.8  # what the page asks for by itself
SETTINGS = Settings(workers=1, pixels=DEFAULT_LIMITS.pixels)  # the service's own limit is lower


@dataclass(frozen=True, kw_only=True)
class Told:
    """Photos, the classifier that is asked, by `model` and with `cache` elsewhere too, and its record of each."""

    model: str
    cache: Path
    classifier: Classifier
    photos: list[Path]
    records: list[dict[str, Any]]


@pytest.fixture(scope="module", params=["ours", "hard"])
def told(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A few photos for the bundled model; and, where they are, the hard ones for a tiny one, which costs little."""
    if request.param == "ours":
        model, photos = BUNDLED, _ours(tmp_path_factory.mktemp("photos"))
    else:
        model, photos = str(tiny), [test_hard_images.FOLDER / row["path"] for row in test_hard_images.rows()]
        if not photos:
            pytest.skip("the shared data beside the checkout are absent")
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(cache))
        with photolabel.load(model) as classifier:
            records = [each.record() for each in classifier.classify_many(photos, sure=SURE)]
            yield Told(model=model, cache=cache, classifier=classifier, photos=photos, records=records)


def _ours(folder: Path) -> list[Path]:
    made = {
        **{f"good {name}": data for name, data in CORE.items()},
        "good turned": encoded(picture(), "JPEG", exif=exif_block(6)),
        "good cmyk": encoded(picture(mode="CMYK"), "JPEG"),
        "good alpha": encoded(picture(mode="RGBA"), "PNG"),
        **{f"bomb {name}": data for name, data in bombs().items()},
        "cut": JPEG[:-500],
        "empty": b"",
        "text": b"no photo",
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [*sorted((ROOT / "samples").glob("*.jpg")), *(folder / name for name in made)]
