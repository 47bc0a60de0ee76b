"""Models -> one archive, and back, for a machine without a network.

A bundle is a plain tar: `manifest.json`, then `models/NAME.onnx` of each model in the order of their names, then the
licences. The same models give the same bytes.

What comes from elsewhere is read as a stream and never unpacked by its own word: only the header of a regular file
is known here, so there are no links, devices, sparse files or long names; each member must be the next one of the
manifest, by name and size; and no name in the archive ever becomes a path. What it holds is published only when
all of it has been read, hashed and looked into.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from . import artefacts, keeping, models, progress, writing
from .errors import DiskFullError, HashMismatchError, InvalidBundleError, InvalidModelError, UsageError
from .models import Model
from .records import CHUNK, opened
from .store import Store, digest_of

FORMAT = "photolabel-bundle/1"
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20  # bytes: a thousand models have some 300 kB
FILE_LIMIT = 1 << 31  # bytes: no protobuf message, so no ONNX file, is larger
_LICENCES = ("WORDNET-LICENSE.txt",)  # of the labels, which are in every known model
_BLOCK = tarfile.BLOCKSIZE
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of the archive. `model` is the name of the model that it is, None for a licence."""

    file: str
    size: int
    digest: str
    model: str | None
    licence: str
    source: str


# -- out


def bundle(out: Path, names: Sequence[str] = ()) -> list[Member]:
    """Write the models of these names, by default all that are here, into the archive `out`; return what is in it.

    A known model that is not here is fetched. The archive appears whole or not at all. Raises `OutputError` where it
    cannot be written.
    """
    if out.suffix != ".tar":
        raise UsageError(f"expected the archive's name first, ending in .tar, got {str(out)!r}.")
    files = {name: _artefact(name) for name in sorted(set(names or _all_here()))}
    if not files:
        raise UsageError("there is no model here to bundle but what comes with photolabel. Name some.")
    texts = {"MODELS.txt": _notice(files)}
    for name in _LICENCES:
        texts[name] = resources.files("photolabel").joinpath("data", name).read_bytes()
    members = [
        Member(
            file=f"models/{name}.onnx",
            size=path.stat().st_size,
            digest=_digest(path),
            model=name,
            licence=model.licence,
            source=model.source,
        )
        for name, (model, path) in files.items()
    ]
    members += [
        Member(
            file=f"licences/{name}",
            size=len(text),
            digest=f"sha256:{hashlib.sha256(text).hexdigest()}",
            model=None,
            licence="",
            source="",
        )
        for name, text in sorted(texts.items())
    ]
    manifest = json.dumps({"format": FORMAT, "files": [asdict(each) for each in members]}, indent=1).encode()
    with (
        progress.bar(f"writing {out.name}", total=sum(each.size for each in members)) as tick,
        writing.whole(out) as file,
    ):
        _add(file, MANIFEST, [manifest], len(manifest))
        done = 0
        for member in members:
            if member.model is None:
                _add(file, member.file, [texts[member.file.partition("/")[2]]], member.size)
                continue
            with opened(files[member.model][1]) as descriptor:
                _add(file, member.file, _checked(descriptor, member), member.size)
            done += member.size
            tick(done, done)
        file.write(bytes(2 * _BLOCK))
    return members


def _all_here() -> list[str]:
    return [each.name for each in keeping.entries() if each.kind != "bundled" and each.here in ("yes", "Keras' copy")]


def _artefact(name: str) -> tuple[Model, Path]:
    if name not in models.known() and name not in models.own():
        raise UsageError(f"{name!r}: only a known or an imported model can be bundled (see: photolabel models).")
    model = models.resolve(name)
    if name in models.known() and model.path is not None:
        raise UsageError(f"{name} comes with photolabel: it need not be bundled.")
    return model, artefacts.locate(model)


def _digest(path: Path) -> str:
    """The digest on record; what is copied is held against it."""
    record = Store(path.parent).recorded(path.name)
    return record.digest if record else digest_of(path)  # a cache that cannot be written keeps no record


def _notice(files: dict[str, tuple[Model, Path]]) -> bytes:
    lines = ["The models in this archive, where they come from, and their licences.\n"]
    for name, (model, _) in files.items():
        lines.append(f"{name}\n  source:  {model.source}\n  licence: {model.licence}\n")
    lines.append("CC BY 4.0 is https://creativecommons.org/licenses/by/4.0/legalcode")
    lines.append("ImageNet's labels are WordNet's: WORDNET-LICENSE.txt\n")
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _checked(descriptor: int, member: Member) -> Iterator[bytes]:
    """The bytes of an artefact; raises at their end if they are not those on record."""
    digest = hashlib.sha256()
    while data := os.read(descriptor, CHUNK):
        digest.update(data)
        yield data
    if f"sha256:{digest.hexdigest()}" != member.digest:
        raise HashMismatchError(
            f"{member.model}: its file is damaged. Run photolabel models verify {member.model}, and try again"
        )


def _add(file: BinaryIO, name: str, chunks: Sequence[bytes] | Iterator[bytes], size: int) -> None:
    header = tarfile.TarInfo(name)  # nobody's, of 1970
    header.size, header.mode = size, 0o644
    file.write(header.tobuf(tarfile.USTAR_FORMAT))
    for data in chunks:
        file.write(data)
    file.write(bytes(-size % _BLOCK))


# -- in


def unbundle(path: Path) -> list[tuple[str, bool]]:
    """Take in the models of an archive; return their names, and whether each is new here.

    Raises `InvalidBundleError` for whatever is not exactly what `bundle` writes, and then nothing has been taken in.
    The hashes show that it arrived as it was made; who made it they do not show.
    """
    if not os.path.isfile(path):  # noqa: PTH113  # pathlib raises for a name that is too long; a pipe may never end
        raise InvalidBundleError(f"{path}: no such file.")
    try:
        with path.open("rb") as file:
            return _take(file, path)
    except InvalidBundleError as error:
        raise InvalidBundleError(f"{path}: {error}") from None
    except OSError as error:
        raise InvalidBundleError(f"{path}: cannot be read: {error.strerror}.") from None


def _take(file: BinaryIO, path: Path) -> list[tuple[str, bool]]:
    members = _manifest(_exactly(file, _next(file, MANIFEST, MANIFEST_LIMIT)))
    _check_room(members)
    verdicts = []
    with ExitStack() as stack, progress.bar(f"reading {path.name}", total=sum(x.size for x in members)) as tick:
        done = 0
        for member in members:
            if _next(file, member.file, member.size) != member.size:
                raise InvalidBundleError(f"{member.file} is not of the size that the manifest states.")
            if member.model is None:
                _copy(file, member, lambda _: None)
                continue
            store, name = _destination(member)
            new = not store.check(name)
            verdicts.append((member.model, new))
            if new:
                # The block's end publishes it: that of the stack, when all has been read and nothing was wrong.
                writer = stack.enter_context(store.create(name))
                _copy(file, member, writer.write)
                _check_model(writer.temporary, member)
            else:
                _copy(file, member, lambda _: None)
            done += member.size
            tick(done, done)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise InvalidBundleError("it goes on after the last file of its manifest, or is cut short.")
    return verdicts


def _next(file: BinaryIO, name: str, limit: int) -> int:
    """The size of the next member, which must be this regular file of at most `limit` bytes, all of them there."""
    try:
        header = tarfile.TarInfo.frombuf(file.read(_BLOCK), "ascii", "strict")
    except (tarfile.HeaderError, ValueError):
        raise InvalidBundleError(f"not an archive of models, or cut short: expected {name} as the next file.") from None
    if header.name != name or header.type != tarfile.REGTYPE:
        raise InvalidBundleError(f"expected {name}, a plain file, as the next one; came {header.name[:80]!r}.")
    if not 0 <= header.size <= limit:
        raise InvalidBundleError(f"{name} has {header.size} bytes; expected at most {limit}.")
    if header.size > os.fstat(file.fileno()).st_size - file.tell():
        raise InvalidBundleError(f"it is cut short within {name}.")
    return header.size


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    file.read(-size % _BLOCK)
    return data


def _manifest(data: bytes) -> list[Member]:
    try:
        match json.loads(data):
            case {"format": str() as form, "files": [*items]}:
                if form != FORMAT:
                    raise InvalidBundleError(f"expected format {FORMAT}, came {form[:40]!r}.")
                members = [_member(item) for item in items]
            case _:
                raise ValueError
    except (ValueError, TypeError, RecursionError):  # RecursionError: "[[[[..."; a UsageError is a ValueError
        raise InvalidBundleError("its manifest is broken.") from None
    names = [each.file.lower() for each in members]
    if len(set(names)) != len(names):
        raise InvalidBundleError("its manifest names a file twice.")
    order = [each.model for each in members if each.model is not None]
    if order != sorted(order) or not order:  # locks are taken in this order, so two at once do not wait for each other
        raise InvalidBundleError("its manifest lists no models, or not in the order of their names.")
    return members


def _member(item: object) -> Member:
    if not isinstance(item, dict) or set(item) != set(Member.__dataclass_fields__):
        raise ValueError
    member = Member(**item)
    texts = (member.file, member.digest, member.licence, member.source)
    if not all(isinstance(text, str) for text in texts) or not _DIGEST.fullmatch(member.digest):
        raise ValueError
    if type(member.size) is not int or not 0 <= member.size <= FILE_LIMIT:
        raise ValueError
    if member.model is None:
        if not re.fullmatch(r"licences/[A-Za-z0-9][A-Za-z0-9._-]{0,79}", member.file):
            raise ValueError
    elif member.file != f"models/{member.model}.onnx":
        raise ValueError
    else:
        _destination(member)
    return member


def _destination(member: Member) -> tuple[Store, str]:
    """The store and the name there of a model; never made of what the archive calls its file."""
    assert member.model is not None
    known = models.known().get(member.model)
    if known is None:
        return models.own_store(), models.own_file(member.model)
    if known.weights is None:
        raise ValueError("comes with photolabel")
    return Store(), artefacts.published_name(known)


def _check_room(members: Sequence[Member]) -> None:
    cache = Store()
    need = sum(each.size for each in members if each.model is not None)
    with suppress(OSError):  # no folder yet: what is wrong with it will be said when it is made
        cache.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache.folder).free
        if free < need:
            raise DiskFullError(
                f"{cache.folder}: no room: needed {need:,} bytes, free {free:,}. Free some, or set PHOTOLABEL_CACHE to "
                "a folder with room"
            )
    for member in members:
        if member.model is not None:
            store, name = _destination(member)
            record = store.recorded(name)
            if store != cache and os.path.lexists(store.path(name)) and not (record and record.digest == member.digest):
                raise UsageError(
                    f"another model {member.model} is here. Remove it first (photolabel models remove {member.model})."
                )


def _copy(file: BinaryIO, member: Member, write: Callable[[bytes], object]) -> None:
    digest = hashlib.sha256()
    left = member.size
    while left:
        data = file.read(min(CHUNK, left))
        if not data:
            raise InvalidBundleError(f"it is cut short within {member.file}.")
        digest.update(data)
        write(data)
        left -= len(data)
    file.read(-member.size % _BLOCK)
    if f"sha256:{digest.hexdigest()}" != member.digest:
        raise InvalidBundleError(f"{member.file} is damaged: its hash is not that of the manifest.")


def _check_model(path: Path, member: Member) -> None:
    """Raise unless the file is a sound network that describes itself, and a known model under its own name."""
    try:
        found = keeping.check_file(path, shown=member.file)
    except InvalidModelError as error:
        raise InvalidBundleError(str(error)) from None
    known = models.known().get(member.model or "")
    if known and (found.name, found.labels, found.recipes) != (known.name, known.labels, known.recipes):
        raise InvalidBundleError(f"{member.file} does not describe itself as this photolabel's {known.name} does.")
