"""What a layer within a network made of photos, on the disk, so that what lies behind it can be trained.

One file for all that it depends on (the network, the layer, the recipe, the precision): a head, and then a record a
photo, each of the same size and with a checksum of its own. Records are only ever added, in one piece, and one that is
not whole is as if it were not there: a killed process costs what it was just writing. The maps of a photo's views are
float16 by a scale of the photo's own, which is a power of two: half the room, and 1 part in 2,000 at the most amiss.
They are read record by record, so that memory does not grow with the photos, of which a hundred take some 50 MB to
300 MB of disk.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
import struct
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import engine, store
from ..errors import DiskFullError, UsageError
from ..member import BATCH
from ..records import SAFE, opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .backbone import Backbone

FOLDER, ENDING = "activations", ".maps"
_FORMAT = "photolabel-activations/1"
_HEAD = 4096  # bytes
_ABOUT = struct.Struct("<32s32sd")  # a record begins with the photo's SHA-256, a checksum and the scale
_MOST = 60000.0  # of float16's 65,504


class Activations:
    """The maps of photos' views by one layer of one network: float32 (views, height, width, channels) a photo.

    Use it in a `with` block. Other processes that need the same file wait until it is `filled`. Raises what
    `store.explained` does where the cache cannot be written: without it there is nothing to train by.
    """

    def __init__(self, backbone: Backbone, layer: str, shape: tuple[int, int, int]) -> None:
        self.shape = (backbone.recipe.inputs, *shape)
        origin = backbone.origin
        told = [_FORMAT, origin.network, layer, origin.recipe.to_dict(), origin.precision, *self.shape]
        head = json.dumps(told, sort_keys=True).encode("ascii")
        self._head = head + b" " * (_HEAD - 1 - len(head)) + b"\n"
        self._each = _ABOUT.size + 2 * math.prod(self.shape)
        self._store = store.Store(store.cache_folder() / FOLDER)
        self._name = f"{hashlib.sha256(head).hexdigest()[:32]}{ENDING}"
        self._lock = threading.Lock()
        self._places: dict[bytes, int] = {}  # of each photo, by its SHA-256: the last record of it
        self._sound: set[bytes] = set()
        self._file, self._held = ExitStack(), ExitStack()
        with ExitStack() as file, ExitStack() as held:
            held.enter_context(self._store.lock(self._name))
            with store.explained(self._store.folder):
                self._descriptor = self._opened()
                file.callback(os.close, self._descriptor)
                self._count = self._found()
            self._file, self._held = file.pop_all(), held.pop_all()

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._store.path(self._name)

    @property
    def size(self) -> int:
        """How large the file is."""
        return _HEAD + self._count * self._each

    @property
    def empty(self) -> bool:
        """Whether nothing is there."""
        return not self._places

    def check_room(self, photos: int) -> None:
        """Raise `DiskFullError` where so many photos plainly do not fit: better said before long work than after."""
        needed = (photos - self._count) * self._each
        free = shutil.disk_usage(self._store.folder).free
        if needed > free:
            raise DiskFullError(
                f"{self._store.folder}: no room for what is computed of {photos:,} photos: needed {needed:,} more "
                f"bytes, free {free:,}. Free some, set PHOTOLABEL_CACHE to a folder with room, or ask for fewer views."
            )

    def __contains__(self, photo: bytes) -> bool:
        """Whether the maps of the photo of this SHA-256 are there, and sound."""
        if photo in self._sound:
            return True
        with self._lock:
            place = self._places.get(photo)
            sound = place is not None and self._read(place)[0] == photo
            if sound:
                self._sound.add(photo)
            return sound

    def put(self, photo: bytes, maps: NDArray[np.float32]) -> None:
        """Keep the maps of a photo's views, float32 (views, height, width, channels)."""
        if maps.shape != self.shape:
            raise UsageError(f"expected maps {self.shape}, got {maps.shape}.")
        most = float(np.abs(maps).max())
        scale = 2.0 ** max(0, math.ceil(math.log2(most / _MOST))) if most > _MOST else 1.0
        data = (maps / np.float32(scale)).astype("<f2").tobytes()
        record = _ABOUT.pack(photo, _checksum(photo, scale, data), scale) + data
        with self._lock, store.explained(self._store.folder):
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            view = memoryview(record)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._places[photo] = self._count
            self._count += 1
            self._sound.add(photo)

    def take(self, photos: Sequence[bytes], views: Iterable[int]) -> NDArray[np.float32]:
        """Return one view's map of each photo, float32 (photos, height, width, channels).

        Raises UsageError for a photo whose maps are not there.
        """
        found = np.empty((len(photos), *self.shape[1:]), np.float32)
        each = math.prod(self.shape[1:])
        for row, (photo, view) in enumerate(zip(photos, views, strict=True)):
            if photo not in self:
                raise UsageError("the maps of a photo are not there any more: they were damaged. Start again.")
            with self._lock, store.explained(self._store.folder):
                start = _HEAD + self._places[photo] * self._each
                about = self._at(start, _ABOUT.size)
                data = self._at(start + _ABOUT.size + 2 * each * view, 2 * each)
            found[row] = np.frombuffer(data, "<f2").reshape(self.shape[1:])
            found[row] *= np.float32(_ABOUT.unpack(about)[2])
        return found

    def filled(self) -> None:
        """Let others add to the file: from now on it is only read."""
        self._held.close()

    def close(self) -> None:
        """Close the file. Closing twice does no harm."""
        self._held.close()
        self._file.close()

    def __enter__(self) -> Activations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the file

    def _opened(self) -> int:
        """Open the file, or begin it anew where it is none of ours."""
        path = self.path
        with suppress(OSError), opened(path) as descriptor:
            if os.read(descriptor, _HEAD) == self._head:
                return os.open(path, os.O_RDWR | SAFE)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE, 0o666)
        try:
            os.write(descriptor, self._head)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _found(self) -> int:
        """Find the records, cut off a last one that is not whole, and return how many there are."""
        count, rest = divmod(os.fstat(self._descriptor).st_size - _HEAD, self._each)
        if rest:
            os.ftruncate(self._descriptor, _HEAD + count * self._each)
        for place in range(count):
            about = self._at(_HEAD + place * self._each, _ABOUT.size)
            self._places[_ABOUT.unpack(about)[0]] = place
        return count

    def _read(self, place: int) -> tuple[bytes, bytes]:
        """The photo of a record and its numbers; of one that is damaged nothing."""
        with store.explained(self._store.folder):
            record = self._at(_HEAD + place * self._each, self._each)
        photo, checksum, scale = _ABOUT.unpack_from(record)
        data = record[_ABOUT.size :]
        return (photo, data) if checksum == _checksum(photo, scale, data) else (b"", b"")

    def _at(self, start: int, size: int) -> bytes:
        os.lseek(self._descriptor, start, os.SEEK_SET)
        data = bytearray()
        while len(data) < size and (more := os.read(self._descriptor, size - len(data))):
            data += more
        return bytes(data).ljust(size, b"\0")  # cut short by somebody: no checksum is right of that


class Opened:
    """A backbone ready to run, which gives the maps of an inner layer beside the features: as `backbone.Opened`."""

    def __init__(self, backbone: Backbone, layer: str) -> None:
        self.backbone, self.layer = backbone, layer
        self._run = backbone.network.open(engine.Cut(layers=(layer, backbone.layer), only=True))
        self.dimensions: int = self._run.shapes[backbone.layer][-1] or 0
        self.averaged = True

    def both(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the features, float32 (N, numbers), and the maps, float32 (N, height, width, channels), of views.

        `pixels` are uint8 (N, size, size, 3) RGB 0..255.
        """
        features, maps = [], []
        for some in np.array_split(pixels, -(-len(pixels) // BATCH)):
            made = self._run.run(some.astype(np.float32))
            features.append(made[self.backbone.layer].mean(axis=(1, 2)))
            maps.append(made[self.layer])
        return np.concatenate(features), np.concatenate(maps)

    def plain(self) -> Opened:
        """Return the same network, to look at each photo once; it is closed with this one."""
        other = copy.copy(self)
        other.backbone = replace(self.backbone, recipe=self.backbone.recipe.plain)
        return other

    def close(self) -> None:
        """Free its memory; closing twice does no harm."""
        self._run.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checksum(photo: bytes, scale: float, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32, key=photo + struct.pack("<d", scale)).digest()
