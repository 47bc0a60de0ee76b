"""Workers die, hang, lie and are left alone; photos go on."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photolabel import errors, sources
from photolabel.images import DEFAULT_LIMITS, KERAS, Limits, Recipe
from photolabel.prepared import Decoding, File, Prepared, Seconds, prepare
from photolabel.sources import Item
from photolabel.workers import Crew, process, wire
from photolabel.workers.process import Process

import oracle
from crews import HOOK, children, eventually, held, hook, nothing_left, runs
from pictures import CORE, JPEG, PNG, encoded, exif_block, picture

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

RECIPE = oracle.TINY_RECIPE


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    hook(monkeypatch)


def plant(folder: Path, *names: str, data: bytes = PNG) -> list[Item]:
    for name in names:
        (folder / name).write_bytes(data)
    return [Item(photo=str(folder / name), path=str(folder / name)) for name in names]


def prepared(crew: Crew, items: list[Item]) -> list[Prepared]:
    futures = [crew.prepare(item, RECIPE) for item in items]
    return [future.result(timeout=60) for future in futures]


def codes(made: list[Prepared]) -> list[str | None]:
    return [each.error.code if each.error else None for each in made]


def tries(item: Item) -> int:
    return len(Path(item.path + ".tries").read_text().split())


def same(made: Prepared, expected: Prepared) -> None:
    assert (made.photo, made.file, made.decoding) == (expected.photo, expected.file, expected.decoding)
    assert (type(made.error), str(made.error)) == (type(expected.error), str(expected.error))
    assert len(made.views) == len(expected.views)
    for view, other in zip(made.views, expected.views, strict=True):
        np.testing.assert_array_equal(view, other)
        assert view.dtype == np.uint8 and (view.flags.c_contiguous or view[:, ::-1].flags.c_contiguous)


# --- The same as here ---------------------------------------------------------------------------------


def test_workers_prepare_as_this_process_does(tmp_path: Path) -> None:
    photos = {
        **CORE, "turned": encoded(picture(), "JPEG", exif=exif_block(6)), "cmyk": encoded(picture(mode="CMYK"), "JPEG"),
        "alpha": encoded(picture(mode="RGBA"), "PNG"), "large": encoded(picture(900, 700), "JPEG"),
        "cut": JPEG[:-500], "empty": b"", "text": b"no photo", "new\nline": PNG, "\udcff": PNG, "é": PNG,
    }  # fmt: skip
    for name, data in photos.items():
        (tmp_path / name).write_bytes(data)
    items = [Item(photo=name, path=str(tmp_path / name)) for name in photos]
    items += [
        Item(photo="gone", path=str(tmp_path / "gone")),
        Item(photo="folder", path=str(tmp_path)),
        Item(photo="x" * 100_000, path="x" * 100_000),
        Item(photo="\0", path="\0"),
    ]
    with Crew(2) as crew:
        for made, item in zip(prepared(crew, items), items, strict=True):
            same(made, prepare(item.file(), RECIPE, name=item.photo))
            assert made.seconds.decoding >= 0
        made = crew.prepare(items[0], RECIPE, limits=Limits(pixels=10)).result(timeout=30)
        assert isinstance(made.error, errors.PhotoTooLargeError)
        made = crew.prepare(items[0], KERAS).result(timeout=30)
        assert made.pixels is not None and made.pixels.shape == (224, 224, 3)
        for recipe in (replace(RECIPE, views="multi-crop", scales=(36, 50)), DENSE):
            futures = [crew.prepare(item, recipe) for item in items]
            for future, item in zip(futures, items, strict=True):
                same(future.result(timeout=60), prepare(item.file(), recipe, name=item.photo))


def test_photos_in_archives_and_in_memory(tmp_path: Path) -> None:
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            for at in range(3):
                member = tarfile.TarInfo(f"{at}.png")
                member.size = len(PNG) if at else 10
                tar.addfile(member, io.BytesIO(PNG if at else b"0123456789"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.png", PNG)
    items = [*sources.find([tmp_path / name for name in ("a.tar", "a.tar.gz", "a.zip")])]
    assert [item.held > 0 for item in items] == [False] * 3 + [True] * 3 + [False]
    items.append(Item(photo="large", data=JPEG + bytes(20_000_000)))  # many times what a pipe holds
    items.append(Item(photo="known", error=errors.PhotoUnreadableError("known already")))
    with Crew(2) as crew:
        for made, item in zip(prepared(crew, items), items, strict=True):
            same(made, prepare(item.file(), RECIPE, name=item.photo))
    assert codes([made])[0] == "photo-unreadable"


def test_pipes_devices_and_sockets_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        paths = [str(tmp_path / "fifo"), str(tmp_path / "socket"), "/dev/zero", "/dev/tty", "/dev/stdin"]
        with Crew(1, seconds=30) as crew:
            begun = time.monotonic()
            made = prepared(crew, [Item(photo=path, path=path) for path in paths])
            assert set(codes(made)) == {"photo-unreadable"} and time.monotonic() - begun < 15


# --- They die ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["segv", "exit", "raise"])
def test_a_photo_that_kills_its_decoder_costs_itself(how: str, hooked: None, tmp_path: Path) -> None:
    items = plant(tmp_path, "a.png", f"{how}-1.png", "b.png", "c.png", f"{how}-2.png", "d.png")
    with Crew(2) as crew:
        made = prepared(crew, items)
    assert codes(made) == [None, "decoder-crashed", None, None, "decoder-crashed", None]
    assert [each.photo for each in made] == [item.photo for item in items]
    assert (tries(items[1]), tries(items[4])) == (2, 2)


def test_deaths_are_counted_and_photos_are_timed(hooked: None, tmp_path: Path) -> None:
    took: list[float] = []
    items = plant(tmp_path, "a.png", "segv-1.png", "once-exit-2.png", "b.png")
    with Crew(2, took=took.append) as crew:
        assert crew.deaths == 0
        for number, (item, deaths) in enumerate(zip(items, (0, 2, 3, 3), strict=True)):
            crew.prepare(item, RECIPE).result(timeout=60)
            assert crew.deaths == deaths and len(took) == number + 1  # both before the photo is done
    assert crew.deaths == 3  # the end is none
    assert len(took) == 4 and all(0 < seconds < 60 for seconds in took)


def test_what_dies_once_is_tried_again(hooked: None, tmp_path: Path) -> None:
    with Crew(1) as crew:
        assert codes(prepared(crew, plant(tmp_path, "once-segv-1.png", "a.png", "once-exit-2.png"))) == [None] * 3


def test_a_worker_killed_from_outside_loses_nothing(hooked: None, tmp_path: Path) -> None:
    at_work, *others = plant(tmp_path, "once-sleep-1.png", "a.png", "once-segv-2.png")
    with Crew(1) as crew:
        future = crew.prepare(at_work, RECIPE)
        assert eventually(lambda: Path(at_work.path + ".done").exists())
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        assert future.result(timeout=30).error is None and tries(at_work) == 2
        for pid in (idle := children()):
            os.kill(pid, signal.SIGKILL)
        worker = crew._workers[0]._process
        assert worker is not None and worker.pid in idle and eventually(lambda: not worker.idle)
        # The photo that comes then has both its tries left.
        assert codes(prepared(crew, others[::-1])) == [None, None]


def test_a_worker_that_dies_while_it_starts_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "first")
    hook(monkeypatch, f"if not os.path.exists({path!r}): open({path!r}, 'w').close(); os._exit(1)\n")
    with Crew(1) as crew:
        assert codes(prepared(crew, plant(tmp_path, "a.png"))) == [None]
    assert Path(path).exists()


def test_a_worker_that_starts_slowly_is_left_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is ready must not take the other's work upon itself: two threads would read one pipe."""
    slow = f"""
try:
    os.close(os.open({str(tmp_path / "first")!r}, os.O_CREAT | os.O_EXCL))
    import time; time.sleep(2)
except FileExistsError:
    pass
"""
    hook(monkeypatch, slow + HOOK)
    items = plant(tmp_path, "sleep-1.png", "a.png", "b.png", "c.png", "sleep-2.png", "d.png")
    with Crew(2, seconds=1) as crew:
        made = prepared(crew, items)
    assert codes(made) == ["photo-too-slow", None, None, None, "photo-too-slow", None]
    assert (tries(items[0]), tries(items[4])) == (1, 1)


# --- They hang -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sleep", "stop", "drip"])
def test_a_photo_that_takes_too_long(how: str, hooked: None, tmp_path: Path) -> None:
    with Crew(2, seconds=1) as crew:
        begun = time.monotonic()
        made = prepared(crew, plant(tmp_path, f"{how}-1.png", "a.png", f"{how}-2.png", "b.png", "c.png"))
        assert time.monotonic() - begun < 20
    slow = "decoder-crashed" if how == "drip" and codes(made)[0] == "decoder-crashed" else "photo-too-slow"
    assert codes(made) == [slow, None, slow, None, None]
    if slow == "photo-too-slow":
        assert "more than 1 seconds" in str(made[0].error)


def test_a_worker_that_leaves_an_heir_to_its_pipes(hooked: None, tmp_path: Path) -> None:
    """The pipe does not end with the worker: nobody may wait for that."""
    items = plant(tmp_path, "heir-1.png", "a.png", "heir-2.png")
    try:
        with Crew(1, seconds=2) as crew:
            made = prepared(crew, items[:2])
            assert codes(made) == ["photo-too-slow", None]
            future = crew.prepare(items[2], RECIPE)
            assert eventually(lambda: Path(items[2].path + ".heir").exists())
            begun = time.monotonic()
        assert time.monotonic() - begun < 10, "nor does close()"
        with pytest.raises(errors.UsageError, match="closed"):
            future.result(timeout=0)
    finally:
        for path in tmp_path.glob("*.heir"):
            os.kill(int(path.read_text()), signal.SIGKILL)


def test_what_a_worker_started_dies_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pid"
    code = f"""
import subprocess
with open({str(path)!r}, "w") as file:
    file.write(str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid))
"""
    hook(monkeypatch, code)
    with Crew(1) as crew:
        assert codes(prepared(crew, plant(tmp_path, "a.png"))) == [None]
        assert runs(int(path.read_text()))
    assert eventually(lambda: not runs(int(path.read_text())))


@pytest.mark.parametrize("seconds", [1e9, 1e300])
def test_any_number_of_seconds(seconds: float, tmp_path: Path) -> None:
    with Crew(1, seconds=seconds) as crew:
        assert codes(prepared(crew, plant(tmp_path, "a.png"))) == [None]


# --- They lie ------------------------------------------------------------------------------------------


def frame(head: object, body: bytes = b"") -> bytes:
    packed = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<IQ", len(packed), len(body)) + packed + body


PIXELS = bytes(32 * 32 * 3)
FILE = {"sha256": "0" * 64, "bytes": 7}
DECODING = {
    "format": "PNG", "width": 4, "height": 3, "orientation": 1, "scale": 1, "mode": "RGB", "profile": False,
    "transparent": False,
}  # fmt: skip
SECONDS = {"reading": 0.1, "decoding": 0.2}
SOUND = {
    "error": None, "file": FILE, "decoding": DECODING, "seconds": SECONDS, "shapes": [[32, 32]], "views": [[0, False]],
}  # fmt: skip
NONE = {**SOUND, "shapes": [], "views": []}

MIRROR = replace(RECIPE, views="mirror")
DENSE = replace(RECIPE, views="dense", scales=(32, 48))


def pieces(shapes: Sequence[object]) -> dict[str, object]:
    """A head by which each of these is one view."""
    return {**SOUND, "shapes": shapes, "views": [[number, False] for number in range(len(shapes))]}


def read(data: bytes, recipe: Recipe = RECIPE) -> Prepared:
    return wire.answer(io.BytesIO(data), "name", [recipe], DEFAULT_LIMITS)


def test_a_sound_answer() -> None:
    made = read(frame(SOUND, PIXELS))
    assert (made.photo, made.file, made.decoding) == ("name", File(**FILE), Decoding(**DECODING))
    assert made.seconds == Seconds(**SECONDS) and made.pixels is not None and made.pixels.tobytes() == PIXELS
    made = read(frame({**NONE, "error": ["corrupt-photo", "é\n"], "file": None, "decoding": None}))
    assert type(made.error) is errors.CorruptPhotoError and str(made.error) == "é\n" and made.pixels is None
    for kind in wire._ERRORS.values():
        again = io.BytesIO()
        wire.reply(again, Prepared(photo="x", error=kind("why")))
        assert type(read(again.getvalue()).error) is kind
    assert len(wire._ERRORS) >= 8


def lies() -> Iterator[bytes]:
    yield from (
        b"",
        b"\0",
        b"garbage" * 1000,
        struct.pack("<IQ", 0xFFFFFFFF, 0),
        struct.pack("<IQ", 2, 1 << 62) + b"{}",
    )
    yield from (frame(head, PIXELS) for head in (b"", b"{", b"\xff\xfe\0", b"[]", b"1", b"null", b'"x"', b"{}", b"NaN"))
    yield frame(b"[" * 60_000, PIXELS)
    yield frame(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, PIXELS)
    yield frame({**SOUND, "padding": "x" * 70_000}, PIXELS)
    yield from (frame(SOUND, body) for body in (b"", PIXELS[1:], PIXELS + b"\0", PIXELS * 2))
    yield frame(SOUND, PIXELS)[:-1]
    yield pickle.dumps(print)
    yield frame(pickle.dumps(print), PIXELS)
    for name in SOUND:
        yield frame({key: value for key, value in SOUND.items() if key != name}, PIXELS)
        for value in (0, 1, True, "", "x", [], [[]], {}, {"x": 1}, 1.5, [1, 2], float("nan")):
            yield frame({**SOUND, name: value}, PIXELS)
    for shapes in (
        [[32, 32], [32, 32]], [[32, 31]], [[32]], [[32, 32, 3]], [["32", "32"]], [[32.0, 32]], [[True, 3072]], ["ab"],
        [None], [[1024, 1]], [[-32, -32]], [[None, None]], [[10**400, 32]], [[32, 32]] * 2000,
    ):  # fmt: skip
        yield frame(pieces(shapes), PIXELS)
    yield from (frame({**SOUND, "shapes": shapes}, PIXELS) for shapes in ({"32": 32}, 32, [[32, 32]] * 2))
    for views in (
        [[0, 0]], [[0, 1]], [[0, None]], [[0, ""]], [[0]], [[0, False, 0]], [[False, False]], [[0.0, False]], [0],
        [["0", False]], [[None, False]], [[[], False]], [[1, False]], [[-1, False]], [[10**400, False]], ["ab"], [None],
        [[0, False], [0, True]], [[0, False]] * 5000, {"0": False}, {"ab": 0}, [{"ab": 0, "c": 1}],
    ):  # fmt: skip
        yield frame({**SOUND, "views": views}, PIXELS)
    yield frame({**SOUND, "error": ["corrupt-photo", "x"]}, PIXELS)
    yield frame({**NONE, "error": ["corrupt-photo", "x"]}, PIXELS)
    yield frame({**NONE, "error": ["corrupt-photo", "x"], "views": [[0, False]]})
    yield frame({**NONE, "error": ["corrupt-photo", "x"], "shapes": [[32, 32]]}, PIXELS)
    yield from (frame({**NONE, "error": ["corrupt-photo", "x"], name: {}}) for name in ("shapes", "views"))
    for value in (
        ["corrupt-photo"], ["corrupt-photo", 1], ["corrupt-photo", None], ["usage", "x"], ["no-such", "x"], [[], "x"],
        [{}, {}], ["corrupt-photo", "x", "y"], ["corrupt-photo", "\ud800"], ["corrupt-photo", "x" * 5000],
    ):  # fmt: skip
        yield frame({**NONE, "error": value})
    wrong: dict[str, tuple[dict[str, object], tuple[object, ...]]] = {
        "sha256": (FILE, ("", "0" * 63, "G" * 64, "0" * 64 + "\n", 7, None, "\ud800" * 64)),
        "bytes": (FILE, (-1, 1.0, True, "7", None, 1 << 63, DEFAULT_LIMITS.file_bytes + 1)),
        "format": (DECODING, ("EXE", "png", 1, None, "", ["PNG"])),
        "width": (DECODING, (0, -1, 1.0, True, "4", None, 10**400, 1 << 63)),
        "height": (DECODING, (0, 1 << 63)),
        "orientation": (DECODING, (0, 9, True, 1.0)),
        "scale": (DECODING, (0, 3, 16, True, 1.0)),
        "mode": (DECODING, ("", "R\nB", "x" * 17, "=cmd", 1, "\ud800")),
        "profile": (DECODING, (0, 1, None, "x")),
        "transparent": (DECODING, (0,)),
        "reading": (SECONDS, (-1.0, float("nan"), float("inf"), 1, True, "1", None)),
        "decoding": (SECONDS, (float("-inf"),)),
    }
    for field, (record, values) in wrong.items():
        where = {id(FILE): "file", id(DECODING): "decoding", id(SECONDS): "seconds"}[id(record)]
        for value in values:
            yield frame({**SOUND, where: {**record, field: value}}, PIXELS)
        yield frame({**SOUND, where: {key: value for key, value in record.items() if key != field}}, PIXELS)
        yield frame({**SOUND, where: {**record, "more": 1}}, PIXELS)


def test_no_lie_is_more_than_that() -> None:
    """Nothing comes but WireError, which is an error of this photo; and what is claimed is not allocated."""
    tracemalloc.start()
    try:
        for number, data in enumerate(lies()):
            try:
                with pytest.raises(wire.WireError):
                    read(data)
            except pytest.fail.Exception:
                pytest.fail(f"number {number} was taken: {data[:200]!r}")
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
        assert number > 150
    finally:
        tracemalloc.stop()


def dense_body(*shapes: tuple[int, int]) -> bytes:
    return frame(pieces(shapes), b"".join(bytes(height * width * 3) for height, width in shapes))


@pytest.mark.parametrize(
    "shapes",
    [
        [(32, 128)] * 2 + [(48, 129)] * 2,  # another photo at another scale: bounds are all that is asked for
        [(32, 32)] * 2 + [(192, 48)] * 2,
    ],
    ids=str,
)
def test_dense_views_are_of_the_photo_s_own_shape(shapes: list[tuple[int, int]]) -> None:
    assert [view.shape[:2] for view in read(dense_body(*shapes), DENSE).views] == shapes


@pytest.mark.parametrize(
    "shapes",
    [
        [(32, 129)] * 2 + [(48, 129)] * 2,
        [(33, 40)] * 2 + [(48, 129)] * 2,
        [(32, 40), (40, 32)] + [(48, 129)] * 2,
        [(48, 129)] * 2 + [(32, 40)] * 2,
        [(32, 40)] * 2,
        [(32, 40)] * 6,
        [],
    ],
    ids=str,
)
def test_dense_views_of_no_such_photo(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(wire.WireError):
        read(dense_body(*shapes), DENSE)
    with pytest.raises(wire.WireError):
        read(dense_body(*shapes))


def test_true_is_no_number_of_pixels() -> None:
    dot = Recipe(name="dot", size=1)
    assert read(frame(pieces([[1, 1]]), b"rgb"), dot).views[0].tolist() == [[[114, 103, 98]]]
    with pytest.raises(wire.WireError):
        read(frame(pieces([[True, True]]), b"rgb"), dot)


def test_no_more_bytes_are_read_than_a_recipe_makes() -> None:
    """Before any is read, whatever is claimed."""
    for recipe in (RECIPE, DENSE, replace(RECIPE, views="ten-crop")):
        claimed = frame({**SOUND, "shapes": [[32, 32]]})[:12]
        length, _ = struct.unpack("<IQ", claimed)

        class Counting(io.BytesIO):
            asked: list[int] = []  # noqa: RUF012

            def read(self, count: int | None = -1) -> bytes:
                self.asked.append(count or 0)
                return super().read(count)

        stream = Counting(struct.pack("<IQ", length, recipe.most_bytes + 1) + bytes(length))
        with pytest.raises(wire.WireError):
            wire.answer(stream, "name", [recipe], DEFAULT_LIMITS)
        assert stream.asked == [12]


@pytest.mark.parametrize(
    ("sent", "views", "taken"),
    [
        (1, [[0, False], [0, True]], True),
        (1, [[0, True], [0, False]], True),
        (1, [[0, False], [0, False]], True),
        (2, [[0, False], [1, False]], True),
        (2, [[0, True], [1, True]], True),
        (2, [[1, False], [0, False]], False),
        (2, [[0, False], [0, True]], False),
        (1, [[0, False], [1, False]], False),
        (3, [[0, False], [2, False]], False),
        (1, [[0, False], [-1, True]], False),
        (1, [[0, False]], False),
        (1, [[0, False], [0, True], [0, True]], False),
    ],
    ids=str,
)
def test_views_are_told_by_their_pieces(sent: int, views: list[list[object]], taken: bool) -> None:
    """Which are all shown, first in their order, and not so many that more was sent than a recipe makes."""
    body = np.random.default_rng(0).integers(0, 256, (sent, 32, 32, 3), np.uint8)
    data = frame({**SOUND, "shapes": [[32, 32]] * sent, "views": views}, body.tobytes())
    if not taken:
        with pytest.raises(wire.WireError):
            read(data, MIRROR)
        return
    for (number, mirrored), view in zip(views, read(data, MIRROR).views, strict=True):
        np.testing.assert_array_equal(view, body[number][:, ::-1] if mirrored else body[number])


@pytest.mark.parametrize(
    ("how", "scales", "size", "sent"),
    [
        ("one", (), (61, 47), 1),
        ("mirror", (), (61, 47), 1),
        ("mirror", (32, 48), (61, 47), 2),
        ("dense", (32, 48), (61, 47), 2),
        ("ten-crop", (36,), (38, 36), 5),
        ("ten-crop", (36,), (37, 36), 6),  # the middle is not that of the mirror image
        ("multi-crop", (40,), (44, 40), 25),
        ("multi-crop", (40,), (43, 40), 30),  # nor are the five of the middle column
        ("multi-crop", (32,), (40, 32), 5),
        ("multi-crop", (32,), (32, 32), 1),
    ],
)
@pytest.mark.parametrize("fit", ["resize-crop", "crop-resize"])
def test_each_piece_goes_over_once(
    fit: Any, how: Any, scales: tuple[int, ...], size: tuple[int, int], sent: int
) -> None:
    recipe = Recipe(name="x", size=32, side=40, fit=fit, filter="bilinear", views=how, scales=scales)
    made = prepare(encoded(picture(*size), "PNG"), recipe)
    stream = io.BytesIO()
    wire.reply(stream, made)
    stream.seek(0)
    head, body = wire.receive(stream, most=1 << 20)
    assert len(head["shapes"]) == sent and len(head["views"]) == recipe.inputs
    assert len(body) == sum(height * width * 3 for height, width in head["shapes"])
    assert len(body) == sent * 32 * 32 * 3 or how == "dense"
    same(read(stream.getvalue(), recipe), replace(made, photo="name"))


def test_views_that_only_overlap_are_not_taken_for_each_other() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    flat = np.random.default_rng(1).integers(0, 256, 48 * 64 * 3, np.uint8)
    for recipe, views in (
        (MIRROR, (canvas[:32, :32], canvas[:32, 1:33])),
        (MIRROR, (canvas[:32, :32], canvas[1:33, :32])),
        (MIRROR, (canvas[:32, :32][:, ::-1], canvas[:32, 1:33][:, ::-1])),
        (MIRROR, (canvas[:32, :32], canvas[:32, :32][::-1])),
        (MIRROR, (canvas[:32, :32], canvas[:32, :32].transpose(1, 0, 2))),
        (DENSE, tuple(flat[: h * w * 3].reshape(h, w, 3) for h, w in ((48, 32), (48, 32), (48, 64), (48, 64)))),
        (DENSE, tuple(flat[: h * w * 3].reshape(h, w, 3) for h, w in ((32, 48), (32, 48), (64, 48), (64, 48)))),
    ):
        stream = io.BytesIO()
        wire.reply(stream, Prepared(photo="name", views=views))
        same(read(stream.getvalue(), recipe), Prepared(photo="name", views=views))


FITS = (RECIPE, replace(RECIPE, fit="crop-resize", filter="nearest"))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FITS),
    st.sampled_from(["one", "mirror", "ten-crop", "multi-crop", "dense"]),
    st.lists(st.integers(32, 70), max_size=3, unique=True),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_every_view_of_a_photo_comes_over_whole(
    recipe: Recipe, how: Any, scales: list[int], width: int, height: int
) -> None:
    recipe = replace(recipe, views=how, scales=tuple(scales))
    asked, answered = io.BytesIO(), io.BytesIO()
    wire.ask(asked, Item(photo="a", data=encoded(picture(width, height), "PNG")), [recipe], DEFAULT_LIMITS)
    asked.seek(0)
    item, told, limits = wire.question(asked)
    assert told == [recipe]
    made = prepare(item.file(limits), *told, limits=limits, name="a")
    wire.reply(answered, made)
    answered.seek(0)
    same(wire.answer(answered, "a", [recipe], DEFAULT_LIMITS), made)
    assert len(made.views) == recipe.inputs and not answered.read()


def test_a_question_of_before_is_asked_as_it_was() -> None:
    asked = io.BytesIO()
    wire.ask(asked, Item(photo="a", data=PNG), [RECIPE], DEFAULT_LIMITS)
    head = json.loads(asked.getvalue()[12:].split(PNG[:8])[0])
    assert [set(recipe) for recipe in head["recipes"]] == [{"name", "size", "fit", "side", "filter"}]


def test_several_recipes_follow_each_other_and_each_is_checked() -> None:
    other = MIRROR
    asked = io.BytesIO()
    wire.ask(asked, Item(photo="a", data=PNG), [RECIPE, other], DEFAULT_LIMITS)
    asked.seek(0)
    item, told, limits = wire.question(asked)
    assert told == [RECIPE, other]
    made = prepare(item.file(limits), *told, limits=limits, name="a")
    for recipes in ([RECIPE, other], [RECIPE], [other], [RECIPE, other, RECIPE]):
        answered = io.BytesIO()
        wire.reply(answered, made)
        answered.seek(0)
        if recipes == told:
            same(wire.answer(answered, "a", recipes, DEFAULT_LIMITS), made)
        else:
            with pytest.raises(wire.WireError):
                wire.answer(answered, "a", recipes, DEFAULT_LIMITS)


def test_a_worker_that_lies_costs_its_photo(hooked: None, tmp_path: Path) -> None:
    items = plant(tmp_path, "a.png", "garbage-1.png", "b.png", "once-garbage-2.png")
    with Crew(1) as crew:
        assert codes(prepared(crew, items)) == [None, "decoder-crashed", None, None]


def test_what_was_not_asked_for_is_no_answer_to_the_next(hooked: None, tmp_path: Path) -> None:
    first, second = plant(tmp_path, "twice-1.png"), plant(tmp_path, "b.jpg", data=JPEG)
    with Crew(1) as crew:
        assert codes(prepared(crew, first)) == [None]
        time.sleep(0.3)  # the second answer is there
        same(prepared(crew, second)[0], prepare(second[0].path, RECIPE))


def test_nothing_is_unpickled_or_run() -> None:
    for name in ("__init__", "process", "wire", "child"):
        source = Path(wire.__file__).with_name(f"{name}.py").read_text()
        assert not [word for word in ("pickle", "marshal", "eval(", "exec(", "multiprocessing") if word in source]


# --- They are kept from the folder, the terminal and the keyboard ------------------------------------------


def test_the_current_folder_is_no_place_for_libraries(tmp_path: Path) -> None:
    hostile = tmp_path / "photos"
    (hostile / "lib").mkdir(parents=True)
    names = ("numpy", "PIL", "photolabel", "json", "typing", "struct", "pi_heif", "sitecustomize", "usercustomize")
    for name in names:
        for folder in (hostile, hostile / "lib"):
            (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    (hostile / "a.png").write_bytes(PNG)
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from photolabel import images, sources, workers\n"
        f"os.chdir({str(hostile)!r})\n"
        "sys.path[:0] = ['', '.', 'lib']\n"  # as of an interactive Python
        "with workers.Crew(1) as crew:\n"
        "    made = crew.prepare(sources.Item(photo='a.png', path='a.png'), images.KERAS).result(timeout=60)\n"
        "sys.path[:3] = []\n"
        "print(made.error, made.pixels.shape)\n"
    )
    done = subprocess.run([sys.executable, "-P", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("None (224, 224, 3)\n", "")
    assert not (tmp_path / "ran").exists()


def test_the_libraries_are_found_where_the_parent_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(process.__file__).parents[2])
    monkeypatch.setattr(sys, "path", ["/first", root, "/last"])
    assert process._paths() == ["/first", root, "/last"], "in this order, or another module may be found first"
    monkeypatch.setattr(sys, "path", ["", "relative", "/first"])
    assert process._paths() == [root, "/first"]


def test_names_are_as_the_parent_reads_them(tmp_path: Path) -> None:
    (tmp_path / "é.png").write_bytes(PNG)
    script = (
        "from photolabel import images, sources, workers\n"
        "with workers.Crew(1) as crew:\n"
        f"    item = sources.Item(photo='x', path={str(tmp_path)!r} + '/\\u00e9.png')\n"
        "    print(crew.prepare(item, images.KERAS).result(timeout=60).error)\n"
    )
    settings = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", script], env=settings, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_what_libraries_print_goes_nowhere(hooked: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    items = plant(tmp_path, "print-1.png", "a.png", "print-2.png", "c.tiff")
    with Crew(1) as crew:
        made = prepared(crew, items)
        assert codes(made) == [None] * 4 and tries(items[0]) == 1
    assert capfd.readouterr() == ("", "")


def test_what_is_printed_when_it_is_loaded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = process._PROGRAM.replace("from {package}", "print('hello', flush=True)\nfrom {package}")
    monkeypatch.setattr(process, "_PROGRAM", program)
    with Crew(1) as crew:
        assert codes(prepared(crew, plant(tmp_path, "a.png"))) == [None]
    assert capfd.readouterr() == ("", "")


def test_one_that_crashes_leaves_no_core_behind(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    if before[1] == 0:
        pytest.skip("nothing does here")
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        with Crew(1) as crew:
            assert codes(prepared(crew, plant(tmp_path, "a.png"))) == [None]
            (pid,) = children()
            limits = Path(f"/proc/{pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert re.search(r"Max core file size +0 ", limits)


def test_ctrl_c_is_not_for_them(tmp_path: Path) -> None:
    with Crew(2) as crew:
        prepared(crew, plant(tmp_path, "a.png", "b.png"))
        assert eventually(lambda: len(children()) == 2)
        before = children()
        time.sleep(0.3)
        assert codes(prepared(crew, plant(tmp_path, "a.png", "b.png"))) == [None, None]
        for pid in before:
            assert os.getpgid(pid) == pid != os.getpgid(0), "the terminal sends it to the parent's group"
            os.kill(pid, signal.SIGINT)
        assert codes(prepared(crew, plant(tmp_path, "c.png", "d.png"))) == [None, None]
        assert children() == before


PARENT = """
import sys, time
from photolabel import images, sources, workers
{hook}
crew = workers.Crew(2)
futures = [crew.prepare(sources.Item(photo="x", path=path), images.KERAS) for path in sys.argv[2:]]
if sys.argv[1] == "idle":
    for future in futures:
        assert future.result(timeout=60).error is None
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("busy", [True, False])
def test_they_end_with_a_parent_that_is_killed(busy: bool, tmp_path: Path) -> None:
    items = plant(tmp_path, *(("sleep-1.png", "sleep-2.png") if busy else ("a.png", "b.png")))
    patch = f"workers.process._PROGRAM = workers.process._PROGRAM.replace('child.main', {HOOK + 'child.main'!r})"
    script = PARENT.replace("{hook}", patch)
    arguments = ["busy" if busy else "idle", *(item.path for item in items)]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
            assert eventually(lambda: len(children(parent.pid)) == 2)
            started = children(parent.pid)
            if busy:
                assert eventually(lambda: all(Path(item.path + ".tries").exists() for item in items))
        finally:
            parent.kill()
    assert eventually(lambda: not any(map(runs, started)), 15), "orphans"


def test_a_program_that_ends_without_closing_them_waits_for_nothing(tmp_path: Path) -> None:
    items = plant(tmp_path, "sleep-1.png", "sleep-2.png", "a.png")
    patch = f"workers.process._PROGRAM = workers.process._PROGRAM.replace('child.main', {HOOK + 'child.main'!r})"
    script = PARENT.replace("{hook}", patch).replace("time.sleep(600)", "")
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, "busy", *(item.path for item in items)], capture_output=True, timeout=60
    )
    assert done.returncode == 0 and time.monotonic() - begun < 20


# --- They are closed -------------------------------------------------------------------------------------


def test_nothing_is_left_of_them(hooked: None, tmp_path: Path) -> None:
    with nothing_left(seconds=0):
        before = held()
        crew = Crew(2, seconds=1)
        prepared(crew, plant(tmp_path, "a.png", "segv-1.png", "b.png", "sleep-1.png", "garbage-1.png"))
        prepared(crew, plant(tmp_path, "c.png"))
        descriptors, threads, processes = held()
        assert descriptors > before[0] and threads > before[1] and processes > before[2], "held() does see them"
        crew.close()
    crew.close()


def test_a_closed_crew(hooked: None, tmp_path: Path) -> None:
    items = plant(tmp_path, "sleep-1.png", "a.png", "b.png")
    crew = Crew(1)
    futures = [crew.prepare(item, RECIPE) for item in items]
    assert eventually(lambda: Path(items[0].path + ".tries").exists())
    futures[2].cancel()
    begun = time.monotonic()
    crew.close()
    assert time.monotonic() - begun < 10, "in whatever they are doing"
    for future in futures[:2]:
        with pytest.raises(errors.UsageError, match="closed"):
            future.result(timeout=0)
    with pytest.raises(errors.UsageError, match="closed"):
        crew.prepare(items[0], RECIPE)
    known = Item(photo="known", error=errors.PhotoUnreadableError("x"))
    assert crew.prepare(known, RECIPE).result().error is not None
    Crew(3).close()


def test_several_threads_may_ask_at_once(tmp_path: Path) -> None:
    items = plant(tmp_path, *(f"{n}.png" for n in range(8)))
    with Crew(2) as crew:
        made: list[list[Prepared]] = []
        threads = [threading.Thread(target=lambda: made.append(prepared(crew, items))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [[each.photo for each in some] for some in made] == [[item.photo for item in items]] * 4


def test_a_fork_leaves_them_to_its_parent(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    script = (
        "import os, sys\n"
        "from photolabel import images, sources, workers\n"
        f"item = sources.Item(photo='x', path={str(tmp_path / 'a.png')!r})\n"
        "with workers.Crew(1) as crew:\n"
        "    crew.prepare(item, images.KERAS).result(timeout=60)\n"
        "    first = workers.Process.pid.fget(crew._workers[0]._process)\n"
        "    if not (child := os.fork()):\n"
        "        try: crew.prepare(item, images.KERAS)\n"
        "        except ValueError: pass\n"
        "        else: os._exit(3)\n"
        "        crew.close()\n"
        "        os._exit(0)\n"
        "    print(os.waitpid(child, 0)[1])\n"
        "    print(crew.prepare(item, images.KERAS).result(timeout=60).error, crew._workers[0]._process.pid == first)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0\nNone True\n", "")


@pytest.mark.parametrize("executable", [None, "", "/no/such/python", "/bin/false", "/etc/passwd", "a\0b"])
def test_where_no_process_can_be_started(executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with Crew(2) as crew, pytest.raises(errors.UsageError, match="workers=0"):
        prepared(crew, plant(tmp_path, "a.png"))


def test_a_frozen_program_does_not_start_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with Crew(1) as crew, pytest.raises(errors.UsageError, match="workers=0"):
        prepared(crew, plant(tmp_path, "a.png"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_workers_keep_the_memory_of_large_photos() -> None:
    process = Process(5)
    try:
        wanted = {b"MALLOC_MMAP_THRESHOLD_=268435456", b"MALLOC_TRIM_THRESHOLD_=268435456"}
        environment = Path(f"/proc/{process.pid}/environ")  # empty for a moment, while the program is put in place
        assert eventually(lambda: wanted <= set(environment.read_bytes().split(b"\0")))
    finally:
        process.close()


@pytest.mark.skipif(os.name != "posix", reason="no nice(2)")
@pytest.mark.parametrize("behind", [0, 5])
def test_workers_stand_back_as_far_as_they_are_told(behind: int, tmp_path: Path) -> None:
    with Crew(1, behind=behind) as crew:
        prepared(crew, plant(tmp_path, "a.png"))  # so that it has started
        (pid,) = children()
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + behind
