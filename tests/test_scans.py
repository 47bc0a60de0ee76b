"""What is left out of a progressive JPEG that is decoded at a part of its size, and what that moves."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photolabel import decoding, errors, scans
from photolabel.decoding import DEFAULT_LIMITS, Limits, decode
from photolabel.images import CROP, CROP_BILINEAR, KERAS, LITE2, Recipe
from photolabel.prepared import prepare
from photolabel.scans import without_detail

from pictures import encoded, exif_block, large, picture, wide_profile

# --- Files that are nothing but headers -----------------------------------------------------------

Script = Sequence[tuple[tuple[int, ...], int, int, int, int]]  # components; first, last; known, down to

Y, BLUE, RED, ALL = (1,), (2,), (3,), (1, 2, 3)
# As libjpeg writes them, and so nearly everybody.
USUAL: Script = (
    (ALL, 0, 0, 0, 1), (Y, 1, 5, 0, 2), (RED, 1, 63, 0, 1), (BLUE, 1, 63, 0, 1), (Y, 6, 63, 0, 2), (Y, 1, 63, 2, 1),
    (ALL, 0, 0, 1, 0), (RED, 1, 63, 1, 0), (BLUE, 1, 63, 1, 0), (Y, 1, 63, 1, 0),
)  # fmt: skip
# As mozjpeg chooses them.
MOZILLAS: Script = (
    (ALL, 0, 0, 0, 0), (Y, 1, 8, 0, 1), (Y, 9, 63, 0, 1), (Y, 1, 63, 1, 0), (BLUE, 1, 2, 0, 0), (BLUE, 3, 63, 0, 0),
    (RED, 1, 8, 0, 0), (RED, 9, 63, 0, 0),
)  # fmt: skip
GREY: Script = ((Y, 0, 0, 0, 0), (Y, 6, 63, 0, 0), (Y, 1, 5, 0, 3), (Y, 1, 5, 3, 2), (Y, 1, 5, 2, 1), (Y, 1, 5, 1, 0))

HALVED, WHOLE = ((1, 0x22, 0), (2, 0x11, 1), (3, 0x11, 1)), ((1, 0x11, 0), (2, 0x11, 1), (3, 0x11, 1))
SOUND = b"\0\1" + bytes(14)  # one code, of two bits


def segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def quanta(name: int, value: int) -> bytes:
    return bytes([name]) + bytes([value] * 64)


def frame(components: Iterable[tuple[int, int, int]] = HALVED, precision: int = 8, kind: int = 0xC2) -> bytes:
    parts = [bytes(part) for part in components]
    return segment(kind, struct.pack(">BHHB", precision, 64, 64, len(parts)) + b"".join(parts))


def codes_of(number: int) -> bytes:
    return b"\xff\0\xff\xd0" + bytes([1 + number // 200, number % 200]) * 4


def scan(number: int, components: Sequence[int], *four: int) -> bytes:
    first, last, known, down_to = four
    head = bytes([len(components), *(value for name in components for value in (name, 0))])
    return segment(0xDA, head + bytes([first, last, known << 4 | down_to])) + codes_of(number)


START = b"\xff\xd8" + segment(0xDB, quanta(0, 3) + quanta(1, 3))
CODES = segment(0xC4, b"\x10" + SOUND + b"\0")
END = b"\xff\xd9"


def jpeg(script: Script, *, start: bytes = START, head: bytes | None = None, codes: bytes = CODES) -> bytes:
    numbered = (scan(number, *one) for number, one in enumerate(script))
    return start + (frame() if head is None else head) + codes + b"".join(numbered) + END


def left_out(data: bytes, scale: int) -> list[int]:
    less = without_detail(data, scale)
    assert less.startswith(data[:2]) and less.endswith(END)
    gone = [number for number in range(50) if codes_of(number) in data and codes_of(number) not in less]
    if not gone:
        assert less is data, "no copy"
    rest = data
    for number in gone:
        begin = rest.rindex(b"\xff\xda", 0, rest.index(codes_of(number)))
        rest = rest[:begin] + rest[rest.index(codes_of(number)) + len(codes_of(number)) :]
    assert rest == less, "all else stays where it was"
    return gone


@pytest.mark.parametrize(
    ("script", "components", "scale", "gone"),
    [
        (USUAL, HALVED, 2, []),
        (USUAL, HALVED, 4, [4, 5, 9]),
        (USUAL, HALVED, 8, [4, 5, 7, 8, 9]),
        (USUAL, WHOLE, 2, []),
        (USUAL, WHOLE, 4, [4, 5, 7, 8, 9]),
        (USUAL, WHOLE, 8, [4, 5, 7, 8, 9]),
        (MOZILLAS, HALVED, 4, [2, 3]),
        (MOZILLAS, WHOLE, 4, [2, 3, 7]),
        (MOZILLAS, HALVED, 8, [2, 3, 7]),
        (MOZILLAS, WHOLE, 8, [2, 3, 5, 7]),
        (GREY, HALVED[:1], 2, []),
        (GREY, HALVED[:1], 4, [1, 3, 4, 5]),
        (GREY, HALVED[:1], 8, [1, 3, 4, 5]),
        # Halved one way only, and the unusual: libjpeg enlarges by whole steps of both ways at once.
        (USUAL, ((1, 0x21, 0), (2, 0x11, 1), (3, 0x11, 1)), 4, [4, 5, 7, 8, 9]),
        (USUAL, ((1, 0x31, 0), (2, 0x11, 1), (3, 0x11, 1)), 4, [4, 5, 7, 8, 9]),
        (USUAL, ((1, 0x44, 0), (2, 0x11, 1), (3, 0x22, 1)), 8, [4, 5, 7, 9]),
    ],
)
def test_what_is_left_out(
    script: Script, components: Sequence[tuple[int, int, int]], scale: int, gone: list[int]
) -> None:
    assert left_out(jpeg(script, head=frame(components)), scale) == gone


@pytest.mark.parametrize(
    ("quantum", "gone"), [(3, [4, 5, 9]), (8, [4, 5, 9]), (9, [9]), (24, [9]), (25, []), (255, [])]
)
def test_last_bits_stay_where_a_quantum_is_large(quantum: int, gone: list[int]) -> None:
    """And with them what they are the last bits of: without scan 4, scan 5 would be read as something else."""
    data = jpeg(USUAL, start=b"\xff\xd8" + segment(0xDB, quanta(0, quantum) + quanta(1, 3)))
    assert left_out(data, 4) == gone
    assert left_out(data, 8) == [4, 5, 7, 8, 9], "which brightness does not matter to"
    wide = b"\x10" + struct.pack(">64H", *[quantum] * 64)
    assert left_out(jpeg(USUAL, start=b"\xff\xd8" + segment(0xDB, wide) + segment(0xDB, quanta(1, 3))), 4) == gone
    ordinary = bytearray([200] * 64)
    for place in (1, 2, 4):
        ordinary[place] = quantum
    start = b"\xff\xd8" + segment(0xDB, b"\0" + ordinary + quanta(1, 3))
    assert left_out(jpeg(USUAL, start=start), 4) == gone, "of the finest detail it may be as large as it likes"


def test_what_lies_between_scans_stays() -> None:
    between = segment(0xC4, b"\x10" + SOUND + b"\0") + segment(0xDD, b"\0\4") + segment(0xFE, b"words")
    parts = [scan(number, *one) for number, one in enumerate(USUAL)]
    assert left_out(START + frame() + CODES + between.join(parts) + END, 4) == [4, 5, 9]


# --- Unusual files --------------------------------------------------------------------------------


def changed(*changes: tuple[int, tuple[tuple[int, ...], int, int, int, int]]) -> bytes:
    script = list(USUAL)
    for number, one in changes:
        script[number] = one
    return jpeg(script)


WHOLE_FILE = jpeg(USUAL)
FIRST_SCAN = WHOLE_FILE.index(b"\xff\xda")
ONE = frame(HALVED[:1])
OVERFULL, OUTSIDE = b"\2" + bytes(15), b"\0\3" + bytes(14)
UNUSUAL = {
    "nothing": b"",
    "two bytes": b"\xff\xd8",
    "baseline": jpeg(USUAL, head=frame(kind=0xC0)),
    "extended": jpeg(USUAL, head=frame(kind=0xC1)),
    "lossless": jpeg(USUAL, head=frame(kind=0xC3)),
    "hierarchical": jpeg(USUAL, head=frame(kind=0xC6)),
    "arithmetic": jpeg(USUAL, head=frame(kind=0xCA)),
    "arithmetic tables": jpeg(USUAL, head=frame() + segment(0xCC, b"\0\0")),
    "12 bits": jpeg(USUAL, head=frame(precision=12)),
    "no frame": jpeg(USUAL, head=b""),
    "two frames": jpeg(USUAL, head=frame() * 2),
    "frame behind a scan": WHOLE_FILE.replace(codes_of(9), codes_of(9) + frame()),
    "five components": jpeg(USUAL, head=frame((*HALVED, (4, 0x11, 0), (5, 0x11, 0)))),
    "components of one name": jpeg(USUAL, head=frame((*HALVED, (3, 0x11, 0)))),
    "a component that never comes": jpeg(USUAL, head=frame((*HALVED, (4, 0x11, 0)))),
    "no component": jpeg((), head=frame(())),
    "sampled 0 times": jpeg(USUAL, head=frame(((1, 0x20, 0), *HALVED[1:]))),
    "sampled 5 times": jpeg(USUAL, head=frame(((1, 0x51, 0), *HALVED[1:]))),
    "frame too long": jpeg(USUAL, head=frame().replace(b"\xff\xc2\0\x11", b"\xff\xc2\0\x12") + b"\0"),
    "no quanta": jpeg(USUAL, start=b"\xff\xd8"),
    "quanta of one component only": jpeg(USUAL, start=b"\xff\xd8" + segment(0xDB, quanta(0, 3))),
    "quanta cut short": jpeg(USUAL, start=b"\xff\xd8" + segment(0xDB, quanta(0, 3) + quanta(1, 3)[:-1])),
    "quanta of 32 bits": jpeg(USUAL, start=START + segment(0xDB, b"\x20" + bytes(64))),
    "quanta behind a scan": WHOLE_FILE.replace(codes_of(3), codes_of(3) + segment(0xDB, quanta(0, 1))),
    "no codes": jpeg(USUAL, codes=b""),
    "codes of means only": jpeg(USUAL, codes=segment(0xC4, b"\0" + SOUND + b"\0")),
    "codes that cannot be": jpeg(USUAL, codes=CODES + segment(0xC4, b"\x11" + OVERFULL + bytes(2))),
    "a code of all ones": jpeg(USUAL, codes=CODES + segment(0xC4, b"\x11" + b"\0\4" + bytes(18))),
    "codes cut short": jpeg(USUAL, codes=CODES + segment(0xC4, b"\x11" + OUTSIDE + bytes(2))),
    "codes cut shorter": jpeg(USUAL, codes=CODES + segment(0xC4, b"\x11" + bytes(15))),
    "more codes than there can be": jpeg(USUAL, codes=CODES + segment(0xC4, (b"\x11" + SOUND + b"\0") * 200)),
    "height behind a scan": WHOLE_FILE.replace(codes_of(0), codes_of(0) + segment(0xDC, b"\0\x40")),
    "another start": WHOLE_FILE.replace(codes_of(0), codes_of(0) + b"\xff\xd8"),
    "filling": WHOLE_FILE.replace(b"\xff\xda", b"\xff\xff\xda"),
    "filling before the end": WHOLE_FILE.replace(END, b"\xff" + END),
    "a marker without its first byte": WHOLE_FILE.replace(CODES, b"\0" + CODES[1:]),
    "junk": WHOLE_FILE.replace(CODES, CODES + b"\0"),
    "a marker that is none": WHOLE_FILE.replace(codes_of(5), b"\xff\1" + codes_of(5)),
    "a segment of length 1": WHOLE_FILE.replace(CODES, CODES + b"\xff\xfe\0\1"),
    "a segment beyond the end": WHOLE_FILE[:-2] + b"\xff\xfe\xff\xff" + bytes(90),
    "no end": WHOLE_FILE[:-2],
    "half an end": WHOLE_FILE[:-1],
    "another picture behind it": WHOLE_FILE * 2,
    "a byte behind it": WHOLE_FILE + b"\0",
    "an end too early": WHOLE_FILE.replace(codes_of(8), codes_of(8) + END),
    "no scan": START + frame() + CODES + END,
    "a bit that never comes": jpeg(USUAL[:-1]),
    "no means": jpeg(USUAL[1:]),
    "twice the same": jpeg((*USUAL[:2], USUAL[1], *USUAL[2:])),
    "fine before coarse": changed((5, USUAL[9]), (9, USUAL[5])),
    "detail before means": changed((0, USUAL[1]), (1, USUAL[0])),
    "two bits at once": changed((5, (Y, 1, 63, 2, 0))),
    "bits that there are not": changed((1, (Y, 1, 5, 0, 14))),
    "means with detail": changed((0, (ALL, 0, 5, 0, 1))),
    "detail of all": changed((1, (ALL, 1, 5, 0, 2))),
    "detail beyond a block": changed((4, (Y, 6, 64, 0, 2))),
    "a band the wrong way": changed((1, (Y, 5, 1, 0, 2))),
    "bands that meet": changed((4, (Y, 5, 63, 0, 2))),
    "a component twice in a scan": changed((0, ((1, 2, 2), 0, 0, 0, 1))),
    "an unknown component": changed((1, ((9,), 1, 5, 0, 2))),
    "a scan of nothing": changed((1, ((), 1, 5, 0, 2))),
    "a scan's header too long": WHOLE_FILE.replace(b"\xff\xda\0\x08\1\1\0", b"\xff\xda\0\x09\1\1\0\0"),
    "means of nothing": jpeg((*USUAL, ((), 0, 0, 0, 0))),
    "means with detail, all of it": jpeg(((Y, 0, 5, 0, 0), (Y, 6, 63, 0, 0)), head=ONE),
    "detail of all, all of it": jpeg(((ALL, 0, 0, 0, 0), (ALL, 1, 5, 0, 0), (ALL, 6, 63, 0, 0)), head=frame(WHOLE)),
    "detail beyond a block, all of it": jpeg(((Y, 0, 0, 0, 0), (Y, 1, 5, 0, 0), (Y, 6, 64, 0, 0)), head=ONE),
    "two bits at once, all of them": jpeg(
        ((Y, 0, 0, 0, 0), (Y, 1, 5, 0, 0), (Y, 6, 63, 0, 2), (Y, 6, 63, 2, 0)), head=ONE
    ),
    "bits that there are not, all of them": jpeg(
        ((Y, 0, 0, 0, 0), (Y, 1, 5, 0, 0), (Y, 6, 63, 0, 14), *((Y, 6, 63, bit, bit - 1) for bit in range(14, 0, -1))),
        head=ONE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_file_is_decoded_whole(name: str) -> None:
    assert name == "nothing" or UNUSUAL[name] != WHOLE_FILE
    for scale in (2, 4, 8):
        assert without_detail(UNUSUAL[name], scale) is UNUSUAL[name]


@pytest.mark.parametrize(("segments", "gone"), [(900, [4, 5, 9]), (1000, [])])
def test_a_file_of_many_segments_is_not_looked_through(segments: int, gone: list[int]) -> None:
    assert left_out(jpeg(USUAL, codes=CODES + segment(0xFE, b"") * segments), 4) == gone
    assert left_out(jpeg(USUAL, codes=CODES * segments), 4) == gone


@pytest.mark.parametrize(("bands", "many"), [(4, 60), (63, 1000)])
def test_a_file_of_many_scans_is_not_looked_through(bands: int, many: int) -> None:
    """Each in its place: single coefficients, and their bits."""
    script: list[tuple[tuple[int, ...], int, int, int, int]] = [(Y, 0, 0, 0, 0)]
    edges = [1, *range(65 - bands, 64), 64]
    for first, after in itertools.pairwise(edges):
        script += [(Y, first, after - 1, known, known - 1 if known else 13) for known in (0, *range(13, 0, -1))]
    assert (len(script) < 100) == (many < 100)
    data = jpeg(script, head=frame(HALVED[:1]))
    assert (without_detail(data, 8) is data) == (many > 100)


# --- Real files -----------------------------------------------------------------------------------


@pytest.fixture
def all_of_it(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """`decode` as it would be without this module, until undone."""
    monkeypatch.setattr(decoding, "without_detail", lambda data, scale: data)
    return monkeypatch


def decoded(data: bytes, enough: int) -> np.ndarray:
    return np.asarray(decode(data, DEFAULT_LIMITS, enough=enough)).astype(int)


@pytest.mark.parametrize("quality", [20, 90])
@pytest.mark.parametrize(
    ("mode", "options"), [("L", {}), ("RGB", {"subsampling": 0}), ("CMYK", {}), ("RGB", {"keep_rgb": True})]
)
def test_at_an_eighth_nothing_changes(
    mode: str, options: dict[str, object], quality: int, all_of_it: pytest.MonkeyPatch
) -> None:
    """Also where libjpeg would smooth, had it nothing but means."""
    data = encoded(large(651, 443, mode), "JPEG", progressive=True, quality=quality, **options)
    whole = decoded(data, 50)
    all_of_it.undo()
    assert len(without_detail(data, 8)) < 0.8 * len(data)
    assert decode(data, DEFAULT_LIMITS, enough=50).info["scale"] == 8
    np.testing.assert_array_equal(decoded(data, 50), whole)


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_at_a_quarter_little_changes(quality: int, subsampling: int, all_of_it: pytest.MonkeyPatch) -> None:
    photo = large(1201, 903)
    data = encoded(photo, "JPEG", progressive=True, quality=quality, subsampling=subsampling, optimize=True)
    whole = decoded(data, 200)
    all_of_it.undo()
    less = without_detail(data, 4)
    apart = np.abs(decoded(data, 200) - whole)
    assert decode(data, DEFAULT_LIMITS, enough=200).info["scale"] == 4
    if quality == 10:
        assert less is data
    else:
        assert len(less) < 0.8 * len(data)
        # Before it is scaled down once more. Every block of this picture has detail in all its coefficients.
        assert 0 < apart.mean() < 3.5 and apart.max() <= 24
    assert without_detail(data, 2) is data


@pytest.mark.parametrize("recipe", [CROP, CROP_BILINEAR, LITE2], ids=lambda recipe: recipe.name + recipe.filter)
def test_what_a_network_gets_of_it(recipe: Recipe, all_of_it: pytest.MonkeyPatch) -> None:
    data = encoded(large(4000, 3000), "JPEG", progressive=True, quality=88)
    whole = prepare(data, recipe)
    all_of_it.undo()
    made = prepare(data, recipe)
    assert made.pixels is not None and whole.pixels is not None
    assert made.decoding == whole.decoding and made.file == whole.file
    apart = np.abs(made.pixels.astype(int) - whole.pixels)
    assert 0 < apart.mean() < 0.6 and apart.max() <= 8


@pytest.mark.parametrize("recipe", [CROP, LITE2], ids=lambda recipe: recipe.name)
def test_real_photos_change_less_than_by_reducing(recipe: Recipe, shared: Path, all_of_it: pytest.MonkeyPatch) -> None:
    names = ("immich-book-beside-flowers.jpg", "immich-craft-beer.jpg")
    photos = [(shared / "camera" / name).read_bytes() for name in names]
    reduced = [prepare(data, recipe).pixels for data in photos]
    all_of_it.undo()
    for data, before in zip(photos, reduced, strict=True):
        after = prepare(data, recipe).pixels
        assert before is not None and after is not None
        apart = np.abs(after.astype(int) - before)
        assert len(without_detail(data, 4)) < 0.5 * len(data)
        assert 0 < apart.mean() < 0.45 and apart.max() <= 6


def test_only_progressive_jpegs_at_a_part_of_their_size_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(decoding, "without_detail", lambda data, scale: asked.append(scale) or data)
    photo = large(1201, 903)
    progressive, baseline = (encoded(photo, "JPEG", progressive=how) for how in (True, False))
    decode(progressive, DEFAULT_LIMITS)
    decode(progressive, DEFAULT_LIMITS, enough=903)
    assert prepare(progressive, KERAS).error is None
    decode(baseline, DEFAULT_LIMITS, enough=200)
    decode(encoded(photo, "PNG"), DEFAULT_LIMITS, enough=200)
    assert not asked
    decode(progressive, DEFAULT_LIMITS, enough=200)
    assert asked == [4]


def test_what_comes_with_the_pixels_is_unchanged(all_of_it: pytest.MonkeyPatch) -> None:
    profile = wide_profile()  # once: it says when it was made
    about = {"exif": exif_block(6), "icc_profile": profile, "comment": b"words", "restart_marker_rows": 2}
    data = encoded(picture(1600, 1200), "JPEG", progressive=True, quality=90, **about)
    whole = decode(data, DEFAULT_LIMITS, enough=300)
    all_of_it.undo()
    assert len(without_detail(data, 4)) < len(data)
    made = decode(data, DEFAULT_LIMITS, enough=300)
    assert (made.info, made.mode, made.size) == (whole.info, whole.mode, whole.size)
    assert made.info["orientation"] == 6 and made.info["icc_profile"] == profile


def test_an_mpo_is_decoded_whole() -> None:
    first, second = picture(1600, 1200), picture(1600, 1200).rotate(180)
    data = encoded(first, "MPO", save_all=True, append_images=[second], progressive=True, quality=90)
    assert data.count(b"\xff\xc2") >= 2 and without_detail(data, 4) is data
    assert decode(data, DEFAULT_LIMITS, enough=300).info["scale"] == 4


# --- Whole or refused -----------------------------------------------------------------------------


def test_a_file_cut_anywhere_goes_to_the_decoder_as_it_is() -> None:
    data = encoded(picture(640, 480), "JPEG", progressive=True, quality=90)
    assert without_detail(data, 4) is not data
    for end in (*range(0, len(data), 41), *range(len(data) - 50, len(data))):
        part = data[:end]
        assert without_detail(part, 4) is part
        if end % 5 == 0 or end > len(data) - 20:
            with pytest.raises(errors.PhotoError):
                decode(part, DEFAULT_LIMITS, enough=120)


def mutant(dice: random.Random, data: bytes) -> bytes:
    """Changed in one to three places, of which half lie among headers."""
    changed = bytearray(data)
    marks = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xC0 <= data[at + 1] not in range(0xD0, 0xD8)]
    for _ in range(dice.choice((1, 1, 2, 3))):
        at = dice.choice(marks) + dice.randrange(40) if dice.random() < 0.5 else dice.randrange(len(data))
        at = min(at, len(changed) - 1)
        what = dice.randrange(4)
        if what == 0:
            changed[at] ^= 1 << dice.randrange(8)
        elif what == 1:
            changed[at] = dice.choice((0, 1, 0x11, 63, 64, 0xC4, 0xD9, 0xDA, 0xFF, dice.randrange(256)))
        elif what == 2:
            del changed[at : at + dice.choice((1, 2, 30))]
        else:
            changed[at:at] = changed[(other := dice.choice(marks)) : other + dice.choice((2, 20, 200))]
    return bytes(changed)


def verdict(data: bytes) -> str:
    try:
        image = decode(data, Limits(pixels=200_000), enough=20)
    except errors.PhotoError as error:
        return error.code
    return f"{image.size} {image.mode}"


@pytest.mark.parametrize("seed", range(6))
def test_a_broken_file_is_refused_as_if_all_were_decoded(seed: int, all_of_it: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    options: dict[str, object] = [{}, {"subsampling": 0}, {"restart_marker_rows": 1}][seed % 3]
    source = large(96, 80, "L" if seed == 5 else "RGB")
    data = encoded(source, "JPEG", progressive=True, quality=dice.choice((60, 85, 95)), **options)
    mutants = [mutant(dice, data) for _ in range(300)]
    whole = [verdict(each) for each in mutants]
    all_of_it.undo()
    assert [verdict(each) for each in mutants] == whole
    assert len(set(whole)) > 1
    assert 10 < sum(without_detail(each, 4) is not each for each in mutants) < 290, "some of both kinds"


def test_damage_that_no_decoder_minds_goes_unseen() -> None:
    """What the page on folders says of it: the codes of a scan that is left out are not read."""
    data = bytearray(encoded(large(640, 480), "JPEG", progressive=True, quality=90))
    last = data.rindex(b"\xff\xda")
    data[last + 200 : last + 300] = bytes(100)
    assert decode(bytes(data), DEFAULT_LIMITS).size == (640, 480), "nor does libjpeg refuse it"
    np.testing.assert_array_equal(decoded(bytes(data), 120), decoded(without_detail(bytes(data), 4), 120))


def test_files_of_other_hands(shared: Path) -> None:
    """Whatever they are, they get the verdict that they would get whole."""
    for path in sorted((shared / "hard-images").glob("**/*.jp*g")):
        data = path.read_bytes()
        for scale in (2, 4, 8):
            less = without_detail(data, scale)
            if less is data:
                continue
            with Image.open(path) as image:
                enough = max(1, min(image.size) // scale)
            assert decode(less, DEFAULT_LIMITS, enough=enough).size == decode(data, DEFAULT_LIMITS, enough=enough).size


def test_a_row_of_scans_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each marker is searched for once, from where the last one was: the time taken goes with the bytes."""
    searched: list[tuple[int, int]] = []

    class Counting:
        def search(self, data: bytes, at: int) -> object:
            found = pattern.search(data, at)
            assert found
            searched.append((at, found.start()))
            return found

    pattern = scans._NEXT_MARKER
    monkeypatch.setattr(scans, "_NEXT_MARKER", Counting())
    data = encoded(large(640, 480), "JPEG", progressive=True, quality=90)
    without_detail(data, 4)
    assert len(searched) == 10
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(searched))
