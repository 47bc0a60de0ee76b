"""Whether all is well with this installation: each check a function, none of which stops the others.

What a check finds out is a list of `Finding`s. What it may raise because of the very thing it looks for stands beside
it in `_CHECKS`, and becomes a finding too. Nothing heavy is imported outside the checks: that it cannot be imported is
one of the things to find.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from typing import Any, Literal
from urllib.parse import urlsplit

from . import __version__, network, store
from .errors import MissingExtraError, ModelError, PhotoError, PhotolabelError, StoreError

Verdict = Literal["ok", "warning", "FAILED"]

# What is imported -> the package that has it.
PACKAGES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "openvino": "openvino",
    "onnx": "onnx",
    "h5py": "h5py",
    "pi_heif": "pi-heif",
}

# Of samples/coffee.jpg, scaled to 264 x 176: see data/ORIGINS.md.
ANSWER, PROBABILITY, TOLERANCE = "espresso", 0.4566, 0.005
FLAT = (200, 100, 50)  # the colour of every pixel of data/doctor/flat.*
_OFF = 12  # levels by which a lossy coder may miss it
_LOW = 2 * 10**9  # bytes: VGG16's download, network and compiled network need 1.7e9 for a while
_REINSTALL = "Reinstall photolabel: pip install --force-reinstall"
_SECONDS = 8.0  # for one host


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table: what was looked at, how it is, and what to do about it."""

    check: str
    verdict: Verdict
    says: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether something must be put right."""
        return any(each.verdict == "FAILED" for each in self.findings)

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "schema": "photolabel-doctor/1",
            "failed": self.failed,
            "findings": [asdict(each) for each in self.findings],
        }


def examine(*, reach_out: bool = False) -> Report:
    """Run all checks. Only with `reach_out` is the network used: one small request to each host of weights."""
    findings: list[Finding] = []
    for name, (check, errors) in _CHECKS.items():
        try:
            findings += check()
        except errors as error:
            findings.append(_failed(name, error))
    try:
        findings += network_settings()
        findings += hosts() if reach_out else []
    except (ImportError, OSError, PhotolabelError) as error:
        findings.append(_failed("network", error))
    return Report(findings=tuple(findings))


def _failed(name: str, error: Exception) -> Finding:
    # Other libraries' words hold addresses and paths of their builds.
    says = str(error) if isinstance(error, PhotolabelError) else f"raises {type(error).__name__}"
    return Finding(check=name, verdict="FAILED", says=says, remedy=_REINSTALL)


def versions() -> list[Finding]:
    """Python, the platform, and whether each package can be imported."""
    found = [
        Finding(check="photolabel", verdict="ok", says=__version__),
        Finding(check="python", verdict="ok", says=f"{platform.python_version()} on {platform.platform()}"),
    ]
    for module, package in PACKAGES.items():
        try:
            importlib.import_module(module)  # by name only, to see whether it can be
            found.append(Finding(check=package, verdict="ok", says=metadata.version(package)))
        except (ImportError, OSError, metadata.PackageNotFoundError):  # OSError: a library of the system's is missing
            remedy = f"pip install --force-reinstall {package}"
            found.append(Finding(check=package, verdict="FAILED", says="cannot be imported", remedy=remedy))
    return found


def processor() -> list[Finding]:
    """What the networks run on."""
    from . import engine

    here = engine.processor()
    threads = engine.available_threads()
    abilities = ", ".join(here.abilities)
    return [
        Finding(
            check="processor", verdict="ok", says=f"{here.device} ({here.machine}), {threads} threads; {abilities}"
        ),
        Finding(check="engine", verdict="ok", says=f"OpenVINO {here.openvino}"),
    ]


def second_engine() -> list[Finding]:
    """ONNX Runtime, where it is installed."""
    from .engine import onnxruntime

    if not onnxruntime.is_installed():
        return []
    return [Finding(check="engine", verdict="ok", says=onnxruntime.describe())]


def decoders() -> list[Finding]:
    """Whether a tiny picture of each format that has a decoder of its own comes out in its colour."""
    import numpy as np

    from . import decoding

    found = []
    for form in ("JPEG", "WebP", "AVIF", "HEIC"):
        verdict: Verdict = "ok"
        says, remedy = "decodes", ""
        try:
            image = decoding.decode(_data(f"doctor/flat.{form.lower()}"), decoding.DEFAULT_LIMITS).convert("RGB")
            levels = np.asarray(image, np.int16)
            wrong = np.abs(levels - np.array(FLAT)).max()
            if image.size != (16, 16) or wrong > _OFF:
                verdict, says = "FAILED", "decodes a picture wrongly"
        except PhotoError:
            verdict, says = "FAILED", "does not decode a sound picture"
        if verdict == "FAILED":
            remedy = f"pip install --force-reinstall {'pi-heif' if form == 'HEIC' else 'pillow'}"
        found.append(Finding(check=f"{form} photos", verdict=verdict, says=says, remedy=remedy))
    return found


def _data(name: str) -> bytes:
    return resources.files("photolabel").joinpath("data", *name.split("/")).read_bytes()


def cache() -> list[Finding]:
    """Where the cache is, whether it can be written, and how much room there is."""
    folder = store.cache_folder()
    remedy = "Set PHOTOLABEL_CACHE to a folder that can be written, with 2 GB of room"
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        says = f"{folder} cannot be written ({error.strerror})"
        # What is there already works: without a compiled network a start is slower, no more.
        return [Finding(check="cache", verdict="FAILED", says=says, remedy=remedy)]
    used = sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file()) if folder.is_dir() else 0
    free = shutil.disk_usage(existing).free
    says = f"{folder}: {_megabytes(used)} used, {_megabytes(free)} free"
    if free < _LOW:
        return [
            Finding(check="cache", verdict="warning", says=says, remedy=f"VGG16 needs {_megabytes(_LOW)}. {remedy}")
        ]
    return [Finding(check="cache", verdict="ok", says=says)]


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def hashes() -> list[Finding]:
    """The bundled model against its digest, and the files of the cache against their records."""
    from . import keeping, models

    found = []
    bundled = models.known()[models.BUNDLED]
    assert bundled.path
    if store.digest_of(bundled.path) == models.BUNDLED_DIGEST:
        found.append(Finding(check="bundled model", verdict="ok", says=f"{models.BUNDLED}: its hash is right"))
    else:
        says = f"{models.BUNDLED}: its file is damaged"
        remedy = _REINSTALL
        found.append(Finding(check="bundled model", verdict="FAILED", says=says, remedy=remedy))
    for each in keeping.entries():
        if each.here == "changed":
            says = f"{each.name}: its file is not the one on record"
            remedy = f"photolabel models verify {each.name}"
            found.append(Finding(check="cached model", verdict="warning", says=says, remedy=remedy))
        elif each.kind != "bundled" and each.here == "yes":
            found.append(Finding(check="cached model", verdict="ok", says=f"{each.name}: as it is on record"))
    damaged = [each for each in keeping.leftovers() if each.removable]
    if damaged:
        says = f"{len(damaged)} leftovers, {_megabytes(sum(each.size for each in damaged))}"
        found.append(Finding(check="leftovers", verdict="warning", says=says, remedy="photolabel models clean"))
    return found


def answer() -> list[Finding]:
    """Whether the bundled model gives a photo that comes with photolabel its recorded name and probability."""
    from . import loading, models

    with loading.load(models.BUNDLED) as ready:
        top = ready.classify(_data("doctor/coffee.jpg")).top
    says = f"{top.name} ({top.probability * 100:.2f}%)"
    if top.name == ANSWER and abs(top.probability - PROBABILITY) <= TOLERANCE:
        return [Finding(check="answer", verdict="ok", says=says)]
    return [
        Finding(
            check="answer",
            verdict="FAILED",
            says=f"{says}, expected {ANSWER} ({PROBABILITY * 100:.2f}%)",
            remedy="photolabel models verify; if that finds nothing, reinstall photolabel and openvino",
        )
    ]


def network_settings(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """What the environment says of the network. Opens no connection."""
    settings = []
    if store.offline():
        settings.append("PHOTOLABEL_OFFLINE forbids it")
    if mirror := environment.get("PHOTOLABEL_MIRROR"):
        settings.append(f"weights from the mirror {_shown(mirror)}")
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        value = environment.get(name) or environment.get(name.lower())
        if value:
            settings.append(f"{name} {value if name == 'NO_PROXY' else _shown(value)}")
    return [Finding(check="network", verdict="ok", says="; ".join(settings) or "no settings of its own")]


def _shown(url: str) -> str:
    """A URL's scheme and host; the rest may hold a password."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "(no URL)"
    except ValueError:
        return "(no URL)"


def hosts(transport: network.Transport | None = None) -> list[Finding]:
    """Whether the hosts that weights come from answer, each asked for one byte."""
    if store.offline():
        says = "not asked: PHOTOLABEL_OFFLINE forbids it"
        return [Finding(check="hosts", verdict="warning", says=says, remedy="Unset it to let weights be fetched")]
    from . import models

    urls: dict[str, str] = {}
    for model in models.known().values():
        for url in store.urls_of(model.weights) if model.weights else ():
            urls.setdefault(_shown(url), url)
    found = []
    for host, url in urls.items():
        remedy = "Check HTTPS_PROXY and the firewall, or set PHOTOLABEL_MIRROR"
        try:
            reply = (transport or network.Requests()).get(url, {"Range": "bytes=0-0"}, seconds=_SECONDS)
            status = reply.status
            reply.close()  # its body is not read, however long it is
            says = f"{host} answers {status}"
            good = 200 <= status < 400
        except (network.TryAgainError, network.GiveUpError) as error:
            says, good = f"{host}: {error}", False
        found.append(
            Finding(check="hosts", verdict="ok" if good else "FAILED", says=says, remedy="" if good else remedy)
        )
    if any(each.verdict == "ok" for each in found):  # one of them is enough
        found = [
            Finding(check=x.check, verdict="warning", says=x.says, remedy=x.remedy) if x.verdict == "FAILED" else x
            for x in found
        ]
    return found


# What each check may raise because of what it looks for: a package that is missing or broken, a file that is.
_CHECKS: dict[str, tuple[Callable[[], list[Finding]], tuple[type[Exception], ...]]] = {
    "versions": (versions, ()),
    "processor": (processor, (ImportError, RuntimeError)),
    "second engine": (second_engine, (ImportError, OSError, RuntimeError, MissingExtraError)),
    "decoders": (decoders, (ImportError, OSError)),
    "cache": (cache, (OSError,)),
    "hashes": (hashes, (ImportError, OSError, RuntimeError, StoreError, ModelError)),
    "answer": (answer, (ImportError, OSError, RuntimeError, PhotolabelError)),
}
