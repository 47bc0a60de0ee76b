"""Keywords into sidecars and out of them again, with nothing else touched."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree as ET  # the tests' second opinion of our own small files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photolabel import cli, sidecars
from photolabel.errors import BusyError, CacheUnwritableError, OutputError, SidecarError, UsageError
from photolabel.sidecars import Journal, Keyword, Writer, journal, xmp
from photolabel.sidecars.keywords import LONGEST, MOST, clean

import sidecar_forms
from sidecar_forms import DARKTABLE, DIGIKAM, EXIFTOOL, LIGHTROOM, SOUND, UNSOUND

ESPRESSO = Keyword.of("espresso")


def record(photo: Path | str, name: str = "espresso", probability: float = 0.9) -> dict[str, Any]:
    return {"photo": str(photo), "answer": {"kind": "leaf", "wnid": None, "name": name, "probability": probability}}


def write(*photos: Path, name: str = "espresso") -> str:
    with Writer() as writer:
        for photo in photos:
            assert writer.write(record(photo, name))
    return writer.run


def sidecar(folder: Path, data: bytes | None = None, name: str = "IMG.jpg") -> Path:
    path = folder / f"{name}.xmp"
    if data is not None:
        path.write_bytes(data)
    return path


def merged(data: bytes, *keywords: Keyword) -> bytes:
    return xmp.edited(data, xmp.merge(data, keywords).edits)


def held(path: Path) -> dict[str, list[str]]:
    return {name: values for name, values in xmp.entries(path.read_bytes()).items() if values}


def outcomes(done: list[sidecars.Undone]) -> list[str]:
    return [each.outcome for each in done]


# -- what is merged, byte by byte


def test_a_new_sidecar(tmp_path: Path) -> None:
    write(tmp_path / "IMG.jpg")
    made = sidecar(tmp_path)
    assert held(made) == {"dc:subject": ["espresso"], "lr:hierarchicalSubject": ["espresso"]}
    root = ET.fromstring(made.read_bytes())
    bags = root.findall(f".//{{{sidecar_forms.DC}}}subject/{{{sidecar_forms.RDF}}}Bag/{{{sidecar_forms.RDF}}}li")
    assert [each.text for each in bags] == ["espresso"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["IMG.jpg.xmp"]


@pytest.mark.parametrize("form", SOUND)
def test_a_merge_adds_and_changes_nothing_else(form: str) -> None:
    former = SOUND[form]
    keywords = [Keyword.of("drink", "caf\u00e9 <&> ]]> 1/2"), ESPRESSO]
    merge = xmp.merge(former, keywords)
    after = xmp.edited(former, merge.edits)
    before, now = xmp.entries(former), xmp.entries(after)
    for each in xmp.LISTS:
        ours = [each.entry(keyword) for keyword in keywords]
        if each.made or before[each.name]:
            repeated = list(merge.repeated) if each is xmp.HIERARCHY else []
            wanted = [*before[each.name], *repeated, *ours]
            assert sorted(x.strip() for x in now[each.name]) == sorted(x.strip() for x in wanted)
        else:
            assert not now[each.name]
    assert not xmp.merge(after, keywords).edits, "nothing twice"
    assert xmp.edited(after, xmp.reversed_edits(merge.edits)) == former
    assert all(not edit.old.strip(b"/> \0") or b"=" in edit.old for edit in merge.edits), "nothing of others goes"
    at = 0
    for edit in merge.edits:  # the rest is there, in its order
        at += len(former[at : edit.start]) + len(edit.old)
    assert at <= len(former)
    gone = xmp.entries(xmp.edited(after, xmp.without(after, merge)))
    for each in xmp.LISTS:
        repeated = list(merge.repeated) if each is xmp.HIERARCHY and each.name not in merge.made else []
        assert [x.strip() for x in gone[each.name]] == [*(x.strip() for x in before[each.name]), *repeated]


@pytest.mark.parametrize("form", SOUND)
def test_a_stranger_s_parser_agrees(form: str) -> None:
    former = SOUND[form]
    after = merged(former, Keyword.of("drink", "caf\u00e9 <&>"))
    old, new = (list(ET.fromstring(data).iter()) for data in (former, after))
    mine = {"caf\u00e9 <&>", "drink|caf\u00e9 <&>", "drink/caf\u00e9 <&>"}
    assert sum(each.text in mine for each in new) == sum(
        1 for each in xmp.LISTS if each.made or xmp.entries(former)[each.name]
    )
    ours = {f"{{{sidecar_forms.RDF}}}{x}" for x in ("li", "Bag", "RDF", "Description")}
    ours |= {f"{{{each.uris[0]}}}{each.local}" for each in xmp.LISTS}
    others = [[(x.tag, x.attrib, (x.text or "").strip()) for x in tree if x.tag not in ours] for tree in (old, new)]
    assert others[0] == others[1]


@pytest.mark.parametrize("form", UNSOUND)
def test_what_cannot_be_merged_is_left(form: str, tmp_path: Path) -> None:
    path = sidecar(tmp_path, UNSOUND[form])
    with Writer() as writer, pytest.raises(SidecarError, match="left as it is"):
        writer.write(record(tmp_path / "IMG.jpg"))
    assert path.read_bytes() == UNSOUND[form]
    assert not sidecars.runs() and list(tmp_path.iterdir()) == [path]


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    for form in ("billion laughs", "external entity", "external doctype"):
        with pytest.raises(SidecarError, match="DOCTYPE"):
            xmp.merge(UNSOUND[form], [ESPRESSO])


def test_the_form_of_the_file_is_kept() -> None:
    after = merged(DARKTABLE, Keyword.of("drink", "espresso"))
    lines = set(after.splitlines()) - set(DARKTABLE.splitlines())
    assert lines == {b"     <rdf:li>espresso</rdf:li>", b"     <rdf:li>drink|espresso</rdf:li>"}
    after = merged(EXIFTOOL, ESPRESSO)
    assert after.count(b"\n") - after.count(b"\r\n") == EXIFTOOL.count(b"\n") - EXIFTOOL.count(b"\r\n")
    after = merged(SOUND["ascii"], Keyword.of("caf\u00e9"))
    assert after.isascii() and "caf\u00e9" in xmp.entries(after)["dc:subject"]
    after = merged(SOUND["utf-16, little"], Keyword.of("caf\u00e9"))
    assert "<rdf:li>caf\u00e9</rdf:li>" in after.decode("utf-16")


def test_keywords_of_others_are_not_hidden() -> None:
    """darktable looks at dc:subject only where the hierarchical list has nothing; digiKam at TagsList first."""
    after = xmp.entries(merged(EXIFTOOL, ESPRESSO))
    assert after["lr:hierarchicalSubject"] == ["lake & hill", "espresso"]
    after = xmp.entries(
        merged(SOUND["an empty bag"].replace(b"<rdf:Bag />", b"<rdf:Bag><rdf:li>a</rdf:li></rdf:Bag>"), ESPRESSO)
    )
    assert after["lr:hierarchicalSubject"] == ["a", "espresso"]
    after = xmp.entries(merged(DIGIKAM, Keyword.of("drink", "a/b")))
    assert after["digiKam:TagsList"][1:] == after["MicrosoftPhoto:LastKeywordXMP"][1:] == ["drink/a\\b"]
    assert not xmp.entries(merged(DARKTABLE, ESPRESSO))["digiKam:TagsList"], "made by digiKam, not by us"


def test_a_large_sidecar_is_refused_unread(tmp_path: Path) -> None:
    path = sidecar(tmp_path)
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SidecarError, match="too large"):
        sidecars.plan(tmp_path / "IMG.jpg", [ESPRESSO])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
    with pytest.raises(SidecarError, match="too large"):
        xmp.merge(b" " * (xmp.MAX_BYTES + 1), [ESPRESSO])


@pytest.mark.parametrize(
    "inside",
    [
        "<a/>" * 500_000,
        "<a>" * 250_000 + "</a>" * 250_000,
        " " * 2_000_000,
        f"<dc:subject><rdf:Bag>{' <rdf:li>a</rdf:li>' * 60_000}</rdf:Bag></dc:subject>",
    ],
    ids=["wide", "deep", "blank", "keywords"],
)
def test_large_but_allowed_takes_no_time(inside: str) -> None:
    data = sidecar_forms.rdf(inside)
    start = time.process_time()
    merge = xmp.merge(data, [ESPRESSO])
    after = xmp.edited(data, merge.edits)
    assert xmp.edited(after, xmp.without(after, merge)) == data
    assert time.process_time() - start < 10


_NAMES = st.text(st.characters(codec="utf-8"), max_size=30).filter(lambda name: bool(clean(name)))
_KEYWORDS = st.lists(st.lists(_NAMES, min_size=1, max_size=3).map(lambda names: Keyword.of(*names)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(form=st.sampled_from([x for x in SOUND if x != "deep"]), first=_KEYWORDS, second=_KEYWORDS)
def test_any_keywords_in_any_form(form: str, first: list[Keyword], second: list[Keyword]) -> None:
    one = xmp.merge(SOUND[form], first)
    after_one = xmp.edited(SOUND[form], one.edits)
    two = xmp.merge(after_one, second)
    after_two = xmp.edited(after_one, two.edits)
    now = xmp.entries(after_two)
    for each in (xmp.SUBJECT, xmp.HIERARCHY):
        assert {each.entry(keyword) for keyword in [*first, *second]} <= set(now[each.name])
    assert not xmp.merge(after_two, [*first, *second]).edits
    back = xmp.edited(after_two, xmp.reversed_edits(two.edits))
    assert back == after_one and xmp.edited(back, xmp.reversed_edits(one.edits)) == SOUND[form]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([DARKTABLE, DIGIKAM, LIGHTROOM, SOUND["utf-16, big"]]), st.randoms(use_true_random=False))
def test_a_damaged_sidecar_is_merged_or_refused(data: bytes, rng: random.Random) -> None:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(damaged))
        damaged[at : at + rng.randint(0, 3)] = rng.choice([b"", b"\0", b"<", b">", b"/", b'"', b"&", b"\xff", b"a:b "])
    try:
        after = merged(bytes(damaged), ESPRESSO)
    except SidecarError:
        return
    assert "espresso" in xmp.entries(after)["dc:subject"]


# -- which keywords


def test_a_record_gives_its_answer_if_it_is_probable() -> None:
    assert sidecars.of_record(record("x", "coffee_mug", 0.5)) == [Keyword.of("coffee mug")]
    assert sidecars.of_record(record("x", "coffee_mug", 0.4999)) == []
    assert sidecars.of_record(record("x", "mug", 0.1), threshold=0.1, under=("a", "b"))[0].path == ("a", "b", "mug")
    cat = {"kind": "broader", "wnid": "n02121808", "name": "domestic_cat", "probability": 0.9}
    (keyword,) = sidecars.of_record({"photo": "x", "answer": cat})
    assert keyword.path[0] == "living thing" and keyword.path[-2:] == ("cat", "domestic cat")
    unsure = {"kind": "unsure", "wnid": None, "name": "unsure", "probability": 0.9}
    assert sidecars.of_record({"photo": "x", "answer": unsure}) == []
    assert sidecars.of_record({"photo": "x", "answer": None}) == []
    assert sidecars.of_record(record("x", "\x00_")) == [], "a name of nothing"
    with pytest.raises(UsageError, match="from 0 to 1"):
        sidecars.of_record(record("x"), threshold=50)
    with pytest.raises(UsageError, match="from 0 to 1"):
        Writer(threshold=float("nan"))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a\x00b\x1b[0m\ud800\uffffc", "ab[0mc"),
        (" a\tb\r\n c ", "a b c"),
        ("a|b", "a b"),
        ("\U0001f600", "\U0001f600"),
        ("x" * 999, "x" * LONGEST),
    ],
)
def test_names_are_made_fit_for_xml(name: str, wanted: str) -> None:
    keyword = Keyword.of(name)
    assert keyword.name == wanted
    assert xmp.entries(merged(xmp.EMPTY, keyword))["dc:subject"] == [wanted]


def test_keywords_are_bounded(tmp_path: Path) -> None:
    for path in [(), ("",), ("a|b",), (" a",), ("x" * (LONGEST + 1),), ("a",) * 33, ("\x07",)]:
        with pytest.raises(UsageError):
            Keyword(path)
    many = [Keyword.of(str(i)) for i in range(MOST + 1)]
    assert sidecars.plan(tmp_path / "a.jpg", many[:-1])
    with pytest.raises(UsageError, match=str(MOST)):
        sidecars.plan(tmp_path / "a.jpg", many)


# -- files


def test_photos_without_a_file_or_an_answer_get_nothing(tmp_path: Path) -> None:
    with Writer() as writer:
        assert writer.write({"photo": None, "answer": record("x")["answer"]}) is None
        assert writer.write(record("-")) is None
        assert writer.write({"photo": str(tmp_path / "a.jpg"), "answer": None}) is None
        assert writer.write(record(tmp_path / "a.jpg", probability=0.1)) is None
    assert not list(tmp_path.iterdir()) and not journal.store().folder.exists()


def test_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    sidecar(tmp_path, EXIFTOOL)
    write(tmp_path / "IMG.jpg")
    before = sidecar(tmp_path).stat()
    with Writer() as writer:
        assert writer.write(record(tmp_path / "IMG.jpg")) is None
    assert sidecar(tmp_path).stat() == before and len(sidecars.runs()) == 1


def test_a_dry_run_says_and_writes_nothing(tmp_path: Path) -> None:
    path = sidecar(tmp_path, DARKTABLE)
    with Writer(dry_run=True) as writer:
        assert str(writer.write(record(tmp_path / "IMG.jpg"))) == f"{path}: + espresso"
        assert str(writer.write(record(tmp_path / "b.jpg"))) == f"{tmp_path / 'b.jpg.xmp'}: new, + espresso"
    assert path.read_bytes() == DARKTABLE and list(tmp_path.iterdir()) == [path]
    assert not journal.store().folder.exists()


def test_lightroom_s_sidecar_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "IMG.xmp"
    other.write_bytes(LIGHTROOM)
    write(tmp_path / "IMG.jpg")
    assert other.read_bytes() == LIGHTROOM and sidecar(tmp_path).exists()


def test_mode_and_attributes_stay(tmp_path: Path) -> None:
    path = sidecar(tmp_path, DARKTABLE)
    path.chmod(0o640)
    os.utime(path, (1, 1))
    try:
        os.setxattr(path, "user.note", b"x")
        noted = True
    except (OSError, AttributeError):
        noted = False
    write(tmp_path / "IMG.jpg")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_mtime > 1, "programs must see that it is new"
    assert not noted or os.getxattr(path, "user.note") == b"x"
    write(tmp_path / "b.jpg")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(sidecar(tmp_path, name="b.jpg").stat().st_mode) == 0o666 & ~mask


def test_nothing_behind_a_link_is_changed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(DARKTABLE)
    sidecar(tmp_path).symlink_to(victim)
    with pytest.raises(SidecarError, match="link"):
        sidecars.plan(tmp_path / "IMG.jpg", [ESPRESSO])
    sidecar(tmp_path, name="b.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SidecarError, match="link"):
        sidecars.plan(tmp_path / "b.jpg", [ESPRESSO])
    assert victim.read_bytes() == DARKTABLE and not (tmp_path / "nowhere").exists()


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    sidecar(tmp_path).mkdir()
    os.mkfifo(sidecar(tmp_path, name="b.jpg"))
    for photo in ("IMG.jpg", "b.jpg", "nowhere/c.jpg", "IMG.jpg/" * 2000 + "x", "x" * 254, "a\0b"):
        with Writer() as writer, pytest.raises(OutputError):
            writer.write(record(tmp_path / photo))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["IMG.jpg.xmp", "b.jpg.xmp"]


@pytest.mark.parametrize("call", ["fsync", "write", "fdopen", "link"])
def test_a_full_disk_leaves_all_as_it_was(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sidecar(tmp_path, DARKTABLE)
    photos = [tmp_path / "IMG.jpg", tmp_path / "b.jpg"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with Writer() as writer:
        writer.write(record(tmp_path / "first.jpg"))  # the journal is begun
        with monkeypatch.context() as patched:
            if call == "link":  # then the memory card's way is taken
                patched.setattr(os, "link", full)
                patched.setattr(Path, "replace", full)
            else:
                patched.setattr(os, call, full)
            for photo in photos:
                with pytest.raises((OutputError, CacheUnwritableError)):
                    writer.write(record(photo))
        writer.write(record(tmp_path / "last.jpg"))
    assert path.read_bytes() == DARKTABLE
    assert sorted(x.name for x in tmp_path.iterdir()) == ["IMG.jpg.xmp", "first.jpg.xmp", "last.jpg.xmp"]
    assert all(entry is not None for entry in journal.read(writer.run)), "no broken line in the journal"
    assert outcomes(sidecars.undo())[0] == "deleted"
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == DARKTABLE


def test_half_a_line_in_the_journal_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with Writer() as writer:
        writer.write(record(tmp_path / "first.jpg"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", lambda to, data: real(to, data[: len(data) // 2]))
            with pytest.raises(CacheUnwritableError, match="No space left"):
                writer.write(record(tmp_path / "b.jpg"))
        writer.write(record(tmp_path / "last.jpg"))
    assert outcomes(sidecars.undo()) == ["deleted", "deleted"] and not list(tmp_path.iterdir())


def test_a_memory_card_knows_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    write(tmp_path / "IMG.jpg")
    assert held(sidecar(tmp_path))["dc:subject"] == ["espresso"]
    change = sidecars.plan(tmp_path / "b.jpg", [ESPRESSO])
    beside = tmp_path / "beside"
    beside.write_bytes(b"")
    sidecar(tmp_path, b"another's", "b.jpg")
    with pytest.raises(FileExistsError):
        sidecars._first(beside, change.sidecar)


def test_another_program_s_change_in_between_is_kept(tmp_path: Path) -> None:
    path = sidecar(tmp_path, DARKTABLE)
    old = sidecars.plan(tmp_path / "IMG.jpg", [ESPRESSO])
    fresh = sidecars.plan(tmp_path / "b.jpg", [ESPRESSO])
    path.write_bytes(DIGIKAM)
    other = sidecar(tmp_path, LIGHTROOM, "b.jpg")
    for change in (old, fresh):
        with pytest.raises(SidecarError, match="another program"):
            sidecars.apply(change, Journal())
    assert path.read_bytes() == DIGIKAM and other.read_bytes() == LIGHTROOM


def test_a_sidecar_made_at_the_last_moment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sidecar(tmp_path)
    first = sidecars._first

    def race(beside: Path, path: Path) -> None:
        path.write_bytes(DIGIKAM)
        first(beside, path)

    monkeypatch.setattr(sidecars, "_first", race)
    with pytest.raises(SidecarError, match="another program"):
        write(tmp_path / "IMG.jpg")
    assert path.read_bytes() == DIGIKAM and list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    photo = tmp_path / os.fsdecode(b"\xff\n.jpg")
    write(photo)
    assert outcomes(sidecars.undo()) == ["deleted"]
    assert not list(tmp_path.iterdir())


def test_a_relative_photo_is_undone_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("IMG.jpg"))
    monkeypatch.chdir("/")
    assert outcomes(sidecars.undo()) == ["deleted"] and not list(tmp_path.iterdir())


# -- undo


def test_undo_gives_back_every_byte_run_by_run(tmp_path: Path) -> None:
    forms = [(tmp_path / f"{i}.jpg", data) for i, data in enumerate(SOUND.values())]
    for photo, data in forms:
        sidecar(tmp_path, data, photo.name)
    write(*(photo for photo, _ in forms), tmp_path / "new.jpg")
    middle = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(*(photo for photo, _ in forms), name="second")
    assert set(outcomes(sidecars.undo(dry_run=True))) == {"restored"}
    assert set(outcomes(sidecars.undo())) == {"restored"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == middle
    done = sidecars.undo()
    assert done[0].sidecar.name == "new.jpg.xmp" and done[0].outcome == "deleted"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"{photo.name}.xmp": data for photo, data in forms
    }
    assert sidecars.runs() == [] and sidecars.undo() == []
    assert [path.name for path in journal.store().folder.iterdir() if path.name != "writing.lock"] == []


def test_undo_of_what_has_changed_since_takes_our_keywords_only(tmp_path: Path) -> None:
    for name, data in (("IMG.jpg", EXIFTOOL), ("new.jpg", None), ("digi.jpg", DIGIKAM)):
        path = sidecar(tmp_path, data, name)
        write(tmp_path / name)
        path.write_bytes(path.read_bytes().replace(b"</rdf:Description>", b"<!-- mine --></rdf:Description>", 1))
    assert outcomes([*sidecars.undo(), *sidecars.undo(), *sidecars.undo()]) == ["keywords removed"] * 3
    comment = (b"</rdf:Description>", b"<!-- mine --></rdf:Description>", 1)
    assert sidecar(tmp_path).read_bytes() == EXIFTOOL.replace(*comment)
    assert sidecar(tmp_path, name="digi.jpg").read_bytes() == DIGIKAM.replace(*comment)
    assert held(sidecar(tmp_path, name="new.jpg")) == {}


def test_what_others_added_to_our_list_stays_whole(tmp_path: Path) -> None:
    """The hierarchical list that we made has had a keyword added: the repeated one is needed in it now."""
    path = sidecar(tmp_path, EXIFTOOL)
    write(tmp_path / "IMG.jpg")
    path.write_bytes(merged(path.read_bytes(), Keyword.of("new", "dogs")))
    assert outcomes(sidecars.undo()) == ["keywords removed"]
    assert held(path) == {"dc:subject": ["lake & hill", "dogs"], "lr:hierarchicalSubject": ["lake & hill", "new|dogs"]}


def test_undo_of_what_is_gone_broken_or_already_undone(tmp_path: Path) -> None:
    photos = [tmp_path / f"{i}.jpg" for i in range(5)]
    for photo in photos[1:]:
        sidecar(tmp_path, DARKTABLE, photo.name)
    write(*photos)
    sidecar(tmp_path, name="0.jpg").unlink()
    sidecar(tmp_path, name="1.jpg").unlink()
    sidecar(tmp_path, b"broken", "2.jpg")
    sidecar(tmp_path, DARKTABLE, "3.jpg")
    sidecar(tmp_path, name="4.jpg").unlink()
    sidecar(tmp_path, name="4.jpg").symlink_to(tmp_path / "nowhere")
    done = sidecars.undo()
    assert outcomes(done) == ["left", "as it was", "left", "gone", "as it was"]
    assert sidecar(tmp_path, name="2.jpg").read_bytes() == b"broken"
    assert not sidecars.runs()


def test_undo_can_be_repeated_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar(tmp_path, DARKTABLE)
    write(tmp_path / "IMG.jpg", tmp_path / "b.jpg")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", forbidden)
        done = sidecars.undo()
    assert outcomes(done) == ["deleted", "failed"] and "Permission denied" in str(done[1])
    assert outcomes(sidecars.undo()) == ["as it was", "restored"]


def test_a_run_that_goes_on_is_not_undone(tmp_path: Path) -> None:
    code = (
        "import sys; from photolabel.sidecars import Writer\n"
        "w = Writer(); w.write({'photo': sys.argv[1], 'answer': {'name': 'espresso', 'probability': 1.0}})\n"
        "print('ready', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "IMG.jpg")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdin
        other.stdout.readline()
        with pytest.raises(BusyError):
            sidecars.undo()
        assert sidecar(tmp_path).exists()
        other.stdin.close()
        other.wait()
    assert outcomes(sidecars.undo()) == ["deleted"]


def test_no_change_without_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheUnwritableError, match="PHOTOLABEL_CACHE"):
        write(tmp_path / "IMG.jpg")
    assert not sidecar(tmp_path).exists()


def test_too_much_for_the_journal_is_refused(tmp_path: Path) -> None:
    data = sidecar_forms.rdf(
        f"<dc:subject><rdf:Bag>{''.join(f'<rdf:li>{i:060}</rdf:li>' for i in range(9000))}</rdf:Bag></dc:subject>"
    )
    path = sidecar(tmp_path, data)
    with pytest.raises(SidecarError, match="too many keywords"):
        write(tmp_path / "IMG.jpg")
    assert path.read_bytes() == data


def test_old_runs_are_forgotten(tmp_path: Path) -> None:
    made = [write(tmp_path / f"{i}.jpg") for i in range(journal.KEPT + 3)]
    assert sidecars.runs() == made[3:]


def test_a_hostile_journal_harms_nothing(tmp_path: Path) -> None:
    """Undo removes files on the journal's word, so that must be of a sidecar and of its very bytes."""
    run = write(tmp_path / "IMG.jpg")
    victim = tmp_path / "precious.txt"
    victim.write_text("precious")
    other = sidecar(tmp_path, DARKTABLE, "other.jpg")
    path = journal.store().path(f"{run}.jsonl")
    good = json.loads(path.read_bytes())
    bad = [
        {**good, "path": str(victim), "after": sidecars._digest(b"precious")},
        {**good, "path": "IMG.jpg.xmp"},
        {**good, "path": str(tmp_path / "a\0.xmp")},
        {**good, "path": 5},
        {**good, "temporary": "../precious.txt"},
        {**good, "temporary": "precious.txt"},
        {**good, "before": "x"},
        {**good, "after": None},
        {**good, "more": 1},
        {key: value for key, value in good.items() if key != "path"},
        {**good, "merged": 7},
        {**good, "merged": {**good["merged"], "added": {"rdf:Description": ["x"]}}},
        {**good, "merged": {**good["merged"], "added": {"dc:subject": [1]}}},
        {**good, "merged": {**good["merged"], "edits": [[-1, "", ""]]}},
        {**good, "merged": {**good["merged"], "edits": [["0", "", ""]]}},
        [],
        None,
    ]
    lines = [json.dumps(each).encode() for each in bad]
    lines += [b"[" * 100_000, b"\xff", b"", b"x" * (3 * 2**20)]
    wrong = {**good, "path": str(other), "after": sidecars._digest(DARKTABLE), "before": "0" * 64}
    lines.append(json.dumps(wrong).encode())
    path.write_bytes(b"\n".join(lines) + b"\n" + path.read_bytes() + b'{"path": "cut sho')
    done = sidecars.undo(run)
    assert outcomes(done) == ["deleted", *["left"] * len(lines)]
    assert victim.read_text() == "precious" and other.read_bytes() == DARKTABLE
    for strange in ("../x", "x", "20260101T000000000000-00000000", "\0"):
        with pytest.raises(UsageError, match="no run"):
            sidecars.undo(strange)


# -- killed at any moment

_RUN = """
import os, sys
from photolabel.sidecars import Writer
with Writer() as writer:
    print("ready", flush=True)
    for i in range(200):
        writer.write({"photo": f"{sys.argv[1]}/{i}.jpg", "answer": {"name": "coffee_mug", "probability": 0.9}})
print("done", flush=True)
"""


def test_a_run_killed_at_any_moment_is_undone_whole(tmp_path: Path) -> None:
    rng = random.Random(20)
    forms = list(SOUND.values())[:10]
    former = {f"{i}.jpg.xmp": forms[i % 10] for i in range(0, 50, 2)}
    killed = 0
    for attempt in range(14):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        for name, data in former.items():
            (folder / name).write_bytes(data)
        for _ in range(2):  # also: a run after a killed one, killed itself
            command = [sys.executable, "-c", _RUN, str(folder)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                process.stdout.readline()
                time.sleep(rng.uniform(0, 0.25))
                process.send_signal(signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
            for path in folder.iterdir():
                if not path.name.endswith(".tmp"):
                    xmp.entries(path.read_bytes())  # whole
            assert sum(path.name.endswith(".tmp") for path in folder.iterdir()) <= 1
        while sidecars.runs():
            assert set(outcomes(sidecars.undo())) <= {"deleted", "restored", "as it was"}
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == former
        shutil.rmtree(folder)
    assert killed >= 7


@pytest.mark.parametrize("moment", ["journal", "temporary", "linked", "done"])
def test_each_moment_of_a_write(moment: str, tmp_path: Path) -> None:
    """The process dies after each step in turn; both undo and the next run clean up."""
    code = f"""
import os, sys
from pathlib import Path
from photolabel import sidecars
die = lambda *_: os._exit(9)
real = sidecars._first
if {moment!r} == "journal":
    sidecars._replace = lambda *_, **__: die()
elif {moment!r} == "temporary":
    sidecars._first = die
elif {moment!r} == "linked":
    sidecars._first = lambda beside, path: (os.link(beside, path), die())
else:
    sidecars._first = lambda beside, path: (real(beside, path), beside.unlink(), die())
writer = sidecars.Writer()
writer.write({{"photo": sys.argv[1], "answer": {{"name": "espresso", "probability": 1.0}}}})
"""
    for clean_up in ("undo", "run"):
        photo = tmp_path / f"{clean_up}.jpg"
        assert subprocess.run([sys.executable, "-c", code, str(photo)], check=False).returncode == 9
        strays = [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
        assert len(strays) == (moment in ("temporary", "linked"))
        if clean_up == "run":
            write(tmp_path / "next.jpg")
            assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
            sidecars.undo()
        assert outcomes(sidecars.undo()) == ["deleted" if moment in ("linked", "done") else "as it was"]
        assert not list(tmp_path.iterdir())


# -- the command


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["undo"]) == 0
    assert capsys.readouterr().out == "nothing to undo\n"
    photo = tmp_path / "a\x1b.jpg"
    first = write(photo)
    second = write(tmp_path / "b.jpg")
    assert cli.main(["undo", "--list"]) == 0
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    assert cli.main(["undo", "--dry-run", first]) == 0
    shown = f"{tmp_path}/a\\x1b.jpg.xmp: deleted\n"
    assert capsys.readouterr().out == shown and sidecar(tmp_path, name=photo.name).exists()
    assert cli.main(["undo", first]) == 0
    assert capsys.readouterr().out == shown and not sidecar(tmp_path, name=photo.name).exists()
    sidecar(tmp_path, b"broken", "b.jpg")
    assert cli.main(["undo"]) == 4
    assert "left (not sound XML" in capsys.readouterr().out
    assert cli.main(["undo", "nonsense"]) == 2
