"""The order in which ImageNet's devkit counts the classes: neither that of the ids nor that of any network."""

from __future__ import annotations

from pathlib import Path

from .. import labels
from ..errors import TruthError
from .classes import WNID
from .matlab import MAGIC, BrokenMatError, structures
from .texts import content, lines, text

_MOST = 8 << 20  # bytes: the devkit's own meta.mat is a fraction of that
_CLASSES = 1000  # the numbers above are of names above classes


def order(ground_truth: Path, given: Path | None) -> tuple[Path, list[str]]:
    """Return the file that says the order, and the WordNet ids in it: the first is that of number 1.

    The file is `given`, or the meta.mat beside the ground truth, or in the folder data there or beside its folder.
    Raises TruthError where there is none, and for one that is damaged or says another order.
    """
    path = given or _beside(ground_truth)
    data = content(path, _MOST)
    wnids = _of_mat(path, data) if data.startswith(MAGIC) else _of_text(path, data)
    ours = [label.wnid for label in labels.imagenet()]
    if sorted(wnids) != ours:
        raise TruthError(
            f"{path}: expected each of ImageNet's {_CLASSES:,} WordNet ids once; it has {len(wnids):,}, others or some "
            "of them several times. Is it whole, and of the devkit of ILSVRC 2012?"
        )
    return path, wnids


def _beside(ground_truth: Path) -> Path:
    folder = ground_truth.parent
    for path in (folder / "meta.mat", folder / "data" / "meta.mat", folder / ".." / "data" / "meta.mat"):
        if path.is_file():
            return path
    raise TruthError(
        f"{ground_truth}: it numbers the classes in the devkit's own order, which is in the devkit's meta.mat. "
        "Put meta.mat beside it, or in a folder data there (from Python: order says where it is)."
    )


def _of_mat(path: Path, data: bytes) -> list[str]:
    wnids: dict[int, str] = {}
    try:
        for each in structures(data, "synsets", ("ILSVRC2012_ID", "WNID")):
            number, wnid = each.get("ILSVRC2012_ID"), each.get("WNID")
            if not isinstance(number, int | float) or not isinstance(wnid, str) or not WNID.fullmatch(wnid):
                raise BrokenMatError("not each of its synsets has an ILSVRC2012_ID and a WNID")
            if number in wnids:
                raise BrokenMatError(f"it has two synsets of the number {number:g}")
            if number in range(1, _CLASSES + 1):
                wnids[int(number)] = wnid
    except BrokenMatError as error:
        raise TruthError(
            f"{path}: expected the devkit's meta.mat, a MATLAB 5 file with the array synsets; {error}. Take it from "
            "the devkit again."
        ) from None
    return [wnids[number] for number in sorted(wnids)]


def _of_text(path: Path, data: bytes) -> list[str]:
    wnids = [line.strip() for line in lines(text(path, data))]
    if wrong := next((line for line in wnids if not WNID.fullmatch(line)), None):
        raise TruthError(f"{path}: expected the devkit's meta.mat, or a WordNet id a line; there is {wrong[:80]!r}.")
    if wnids == sorted(wnids):
        raise TruthError(
            f"{path}: this is the order of the ids, as Caffe has it, by which the devkit's numbers would name other "
            "classes. Give the devkit's meta.mat."
        )
    return wnids
