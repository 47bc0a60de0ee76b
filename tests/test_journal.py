"""The journal of a run: whole lines whatever happened to it, and exactly one record a photo when the run goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photolabel.batch import Journal, pinned
from photolabel.batch import journal as module
from photolabel.errors import BusyError, OutputError, UsageError
from photolabel.sources import Item

SETTINGS = {"arguments": {"photos": ["p\udcff", "\x1b"], "--top": 5}, "network": "sha256:0"}
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def record(photo: str, error: str | None = None) -> dict[str, Any]:
    answer = None if error else {"kind": "leaf", "wnid": None, "name": "mug", "probability": 0.5}
    return {
        "schema": "photolabel/1",
        "photo": photo,
        "labels": [],
        "answer": answer,
        "error": {"code": error, "message": "no"} if error else None,
    }


def begun(output: Path, *photos: str) -> None:
    with Journal.begin(output, SETTINGS) as journal:
        for photo in photos:
            journal.add(record(photo))


def items(*photos: str) -> Iterator[Item]:
    return (Item(photo=photo, path=photo) for photo in photos)


def resumed(output: Path, *found: str) -> tuple[list[str], list[str]]:
    """Go on with a run, now that these photos are found: those it still has to do, and all that it has then."""
    journal = Journal.resume(output, lambda _: None)
    if journal is None:
        journal = Journal.begin(output, SETTINGS)
    with journal:
        asked = []
        for item in journal.remaining(items(*found)):
            asked.append(item.photo)
            journal.add(record(item.photo))
        return asked, [json.loads(line)["photo"] for line in journal.lines()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "labels.jsonl"


def partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")


def test_records_come_back_as_they_were_added(output: Path) -> None:
    names = ["a.jpg", "b\n\x1b\u2028.jpg", "\udcff.jpg", "x" * 70000, ""]
    with Journal.begin(output, SETTINGS) as journal:
        for name in names:
            journal.add(record(name, error="corrupt-photo" if name == "a.jpg" else None))
        kept = list(journal.lines())
    seen: list[Any] = []
    again = Journal.resume(output, seen.append)
    assert again is not None
    with again:
        assert [each["photo"] for each in seen] == names and again.done == len(names)
        assert again.settings == SETTINGS and list(again.lines()) == kept
        assert partial(output).read_bytes().partition(b"\n")[2] == b"".join(kept)
        again.remove()
    assert not partial(output).exists()


def test_one_that_is_there_is_refused_and_untouched(output: Path) -> None:
    begun(output, "a", "b")
    before = partial(output).read_bytes()
    for attempt in (lambda: Journal.begin(output, SETTINGS), lambda: Journal.check(output)):
        with pytest.raises(UsageError, match="--resume"):
            attempt()
    assert partial(output).read_bytes() == before


@pytest.mark.parametrize("content", [b"precious", b"precious\n", b"\n", b'{"a": 1}\n', b"[" * 9999 + b"\n", b"\0\n"])
def test_what_is_no_journal_is_left_alone(output: Path, content: bytes) -> None:
    partial(output).write_bytes(content)
    for attempt in (
        lambda: Journal.begin(output, SETTINGS),
        lambda: Journal.check(output),
        lambda: Journal.resume(output, lambda _: None),
    ):
        with pytest.raises(UsageError, match=r"no journal of a run\. Remove it"):
            attempt()
    assert partial(output).read_bytes() == content


@pytest.mark.parametrize("kind", ["folder", "link", "dangling", "fifo"])
def test_what_is_no_file_is_left_alone(output: Path, tmp_path: Path, kind: str) -> None:
    aim = tmp_path / "aim"
    if kind == "folder":
        partial(output).mkdir()
    elif kind == "fifo":
        os.mkfifo(partial(output))
    else:
        partial(output).symlink_to(aim)
        if kind == "link":
            aim.write_bytes(b"")
    for attempt in (
        lambda: Journal.begin(output, SETTINGS),
        lambda: Journal.check(output),
        lambda: Journal.resume(output, lambda _: None),
    ):
        with pytest.raises(OutputError, match="cannot be written"):
            attempt()
    assert not aim.exists() or aim.read_bytes() == b""


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        Journal.begin(tmp_path / "no" / "x.jsonl", SETTINGS)


def test_a_first_line_that_was_never_whole_means_that_nothing_was_done(output: Path) -> None:
    begun(output)
    head = partial(output).read_bytes()
    for cut in range(len(head)):
        for zeros in (0, 7):
            partial(output).write_bytes(head[:cut] + bytes(zeros))
            Journal.check(output)
            assert Journal.resume(output, lambda _: None) is None
            begun(output, "a")
            assert partial(output).read_bytes().startswith(head)
            assert partial(output).read_bytes().count(b"\n") == 2


def test_whether_a_run_has_ended(output: Path) -> None:
    assert not Journal.ended(output)
    output.touch()
    assert Journal.ended(output)
    partial(output).touch()
    assert not Journal.ended(output)


def test_a_head_that_cannot_be_written_leaves_nothing(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(20))
        with pytest.raises(OutputError, match="No space left"):
            Journal.begin(output, SETTINGS)
    assert not partial(output).exists()
    begun(output, "a")


# -- gone on with, whatever became of the file

_GARBAGE = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 5000).map(bytes),
    st.sampled_from(
        [
            b"\n", b"\r\n", b"{}\n", b"null\n", b"[" * 5000 + b"\n", b'{"photo": "a", "error": null, "labels": []}\n',
            b"ERROR: disk failing\n", json.dumps(record("a")).encode("utf-16"),
            json.dumps({**record("a"), "answer": {}}).encode() + b"\n",
            json.dumps({**record("a"), "error": {"code": 1}}).encode() + b"\n",
            json.dumps({**record("a"), "schema": "photolabel/2"}).encode() + b"\n",
        ]
    ),
)  # fmt: skip


@QUICK
@given(data=st.data(), done=st.integers(0, 6), more=st.integers(0, 3), garbage=_GARBAGE)
def test_cut_anywhere_with_garbage_behind(
    data: st.DataObject, done: int, more: int, garbage: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("cut") / "labels.jsonl"
    photos = [f"{number}\n.jpg" for number in range(done + more)]
    begun(output, *photos[:done])
    whole = partial(output).read_bytes()
    head = whole.index(b"\n") + 1
    # In the first line itself garbage makes it another program's file, which is a test of its own.
    cut = data.draw(st.integers(head, len(whole)))
    partial(output).write_bytes(whole[:cut] + garbage)
    healed = garbage.startswith(b"\n") and whole[cut : cut + 1] == b"\n"  # what was cut off
    sound = whole[:cut].count(b"\n") - 1 + healed
    asked, all_of_them = resumed(output, *photos)
    assert asked == photos[sound:]
    assert all_of_them == photos
    assert partial(output).read_bytes().startswith(whole[: whole[:cut].rfind(b"\n") + 1])
    assert partial(output).read_bytes().count(b"\n") == 1 + len(photos), "whole lines, no garbage"


@QUICK
@given(data=st.data(), done=st.integers(1, 6))
def test_a_line_of_another_program_in_the_middle(
    data: st.DataObject, done: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("other") / "labels.jsonl"
    photos = [f"{number}.jpg" for number in range(done)]
    begun(output, *photos)
    lines = partial(output).read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(1, done))
    garbage = data.draw(_GARBAGE.map(lambda x: x.replace(b"\n", b"") + b"\n"))
    partial(output).write_bytes(b"".join([*lines[:at], garbage, *lines[at:]]))
    assert resumed(output, *photos) == (photos[at - 1 :], photos)


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(record("a")).encode() + b" \n",
        json.dumps(record("a")).encode() + b"\r\n",
        b"\xef\xbb\xbf" + json.dumps(record("a")).encode() + b"\n",
        json.dumps(record("\xe9"), ensure_ascii=False).encode() + b"\n",
        json.dumps(record("\xe9"), ensure_ascii=False).encode("utf-16") + b"\n",
    ],
)
def test_a_line_that_is_not_as_we_write_it_would_not_be_copied_into_the_output(output: Path, line: bytes) -> None:
    begun(output, "x")
    with partial(output).open("ab") as file:
        file.write(line)
    journal = Journal.resume(output, lambda _: None)
    assert journal is not None and journal.done == 1
    journal.close()


@QUICK
@given(
    done=st.lists(st.sampled_from("abcdef"), max_size=8),
    found=st.lists(st.sampled_from("abcdefgh"), max_size=12),
    stop=st.integers(0, 12),
)
def test_photos_that_came_or_went_none_lost_none_doubled(
    done: list[str], found: list[str], stop: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever was found then and is found now, twice the same photo included, and stopped once more on the way."""
    output = tmp_path_factory.mktemp("came") / "labels.jsonl"
    begun(output, *done)
    if done and not set(done) & set(found):
        with pytest.raises(UsageError, match="Is their disk there"):
            resumed(output, *found)
        return
    first = Journal.resume(output, lambda _: None)
    assert first is not None
    with first:
        for number, item in enumerate(first.remaining(items(*found))):
            if number == stop:
                break
            first.add(record(item.photo))
    resumed(output, *found)
    asked, all_of_them = resumed(output, *found)
    assert not asked
    assert Counter(all_of_them) == Counter(done) | Counter(found)
    assert all_of_them[: len(done)] == done, "what is there stays"


@QUICK
@given(found=st.lists(st.sampled_from("abcdef"), max_size=12), data=st.data())
def test_unchanged_sources_give_the_order_of_an_unbroken_run(
    found: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("order") / "labels.jsonl"
    done = data.draw(st.integers(0, len(found)))
    begun(output, *found[:done])
    assert resumed(output, *found) == (found[done:], found)


def test_a_new_photo_comes_where_the_run_stands(output: Path) -> None:
    begun(output, "a", "b", "d")
    assert resumed(output, "a", "aa", "b", "c", "d", "e") == (["aa", "c", "e"], ["a", "b", "d", "aa", "c", "e"])


def test_a_disk_that_is_not_there_does_not_end_the_run(output: Path) -> None:
    begun(output, "a", "b")
    before = partial(output).read_bytes()
    for found in ([], ["/mnt/photos"]):
        with pytest.raises(UsageError, match="none of the photos in it \\(2\\) is found any more"):
            resumed(output, *found)
        assert partial(output).read_bytes() == before
    many = [f"new{number}" for number in range(module._HELD + 3)]
    asked, _ = resumed(output, *many, "b", "c")
    assert asked == [*many, "c"]


def test_new_photos_are_not_held_back_without_end(output: Path) -> None:
    begun(output, "a")
    looked_at = []
    found = (looked_at.append(n) or Item(photo=f"new{n}", path="x") for n in range(10_000))  # type: ignore[func-returns-value]
    journal = Journal.resume(output, lambda _: None)
    assert journal is not None
    with journal:
        assert next(journal.remaining(found)).photo == "new0"
        assert len(looked_at) == module._HELD + 1
        heavy = iter([Item(photo="x.tgz/1", data=b"many"), Item(photo="x.tgz/2", data=b"many")])
        assert next(journal.remaining(heavy)).photo == "x.tgz/1" and len([*heavy]) == 1


def test_memory_does_not_grow_with_the_run(output: Path) -> None:
    count = 30_000
    line = json.dumps(record("PHOTO"))
    begun(output)
    with partial(output).open("ab") as file:
        file.writelines(f"{line}\n".replace("PHOTO", f"folder/photo-{n:06}.jpg").encode() for n in range(count))
    tracemalloc.start()
    try:
        journal = Journal.resume(output, lambda _: None)
        assert journal is not None
        with journal:
            found = (Item(photo=f"folder/photo-{number:06}.jpg") for number in range(count + 1))
            assert [item.photo for item in journal.remaining(found)] == [f"folder/photo-{count:06}.jpg"]
            assert sum(1 for _ in journal.lines()) == count
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# -- writing that fails


def full_after(room: int) -> Any:
    """A stand-in for os.write on a disk with so many bytes of room."""
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[:room])
        room -= written
        return written

    return write


def test_a_full_disk_leaves_whole_lines(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.begin(output, SETTINGS) as journal:
        journal.add(record("a"))
        before = partial(output).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full_after(30))
            with pytest.raises(OutputError, match=r"No space left on device\. What is in it stays good; .*--resume"):
                journal.add(record("b"))
        assert partial(output).read_bytes() == before and journal.done == 1
    assert resumed(output, "a", "b", "c") == (["b", "c"], ["a", "b", "c"])


def test_stopped_between_two_pieces_of_a_line(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        if len(data) < 50:
            raise KeyboardInterrupt
        return real(descriptor, data[:50])

    with Journal.begin(output, SETTINGS) as journal:
        journal.add(record("a"))
        before = partial(output).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(KeyboardInterrupt):
                journal.add(record("b"))
        assert partial(output).read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(errno.EINVAL, None), (errno.EIO, 5), (errno.EDQUOT, 122)])
def test_a_disk_that_says_only_at_fsync_that_it_failed(
    output: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int | None
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with Journal.begin(output, SETTINGS) as journal:
        monkeypatch.setattr(module, "_SYNC", 0.0)
        monkeypatch.setattr(os, "fsync", fsync)
        if code is None:
            journal.add(record("a"))
        else:
            with pytest.raises(OutputError, match=os.strerror(number)):
                journal.add(record("a"))


def test_records_that_are_gone_are_noticed_before_the_output_is_written(output: Path) -> None:
    with Journal.begin(output, SETTINGS) as journal:
        for name in "abc":
            journal.add(record(name))
        whole = partial(output).read_bytes()
        os.truncate(partial(output), len(whole) - 5)
        with pytest.raises(OutputError, match="it has 2 records, not 3"):
            list(journal.lines())
        partial(output).unlink()
        with pytest.raises(OutputError, match="No such file"):
            list(journal.lines())
        partial(output).write_bytes(whole)
        with pytest.raises(OutputError, match="replaced"):
            list(journal.lines())


def test_a_record_too_long_to_be_read_back_is_refused(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.begin(output, SETTINGS) as journal:
        monkeypatch.setattr(module, "_MOST_LINE", 1000)
        journal.add(record("a"))
        with pytest.raises(OutputError, match="more than 1,000 bytes"):
            journal.add(record("b" * 1000))
        assert len(list(journal.lines())) == 1


def test_a_file_without_an_end_of_line_is_not_read_whole(output: Path) -> None:
    with partial(output).open("wb") as file:
        os.truncate(file.fileno(), 8 << 30)  # sparse
    with pytest.raises(UsageError, match="no journal"):
        Journal.check(output)


# -- one at a time

_HOLDER = """
import sys
from pathlib import Path
from photolabel.batch import Journal
with Journal.begin(Path(sys.argv[1]), {}):
    print("holds", flush=True)
    sys.stdin.read()
"""


def holder(output: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "holds\n"
    return process


def test_two_processes_do_not_write_the_same_output(output: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with holder(output) as process:
        for way in (output, tmp_path / "link" / output.name, Path(os.path.relpath(output))):
            with pytest.raises(BusyError, match="another photolabel is writing it"):
                Journal.resume(way, lambda _: None)
            with pytest.raises(BusyError):
                Journal.begin(way, {})
        begun(output.with_name("other.jsonl"), "a")  # is nobody's
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert resumed(output, "a") == (["a"], ["a"]), "a dead holder holds nothing"


def test_no_cache_no_lock_but_a_run(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOLABEL_CACHE", f"{os.devnull}/nowhere")
    begun(output, "a")
    assert resumed(output, "a", "b") == (["b"], ["a", "b"])


# -- what a run depends on


def test_a_run_goes_on_as_it_began() -> None:
    began = {"photos": ["a"], "--top": "all", "--model": "vgg16", "--include": [], "--threads": 2}
    nothing = {"photos": [], "--top": None, "--model": None, "--include": [], "--threads": None}
    assert pinned(nothing, began) == began
    assert pinned(began, began) == began
    assert pinned({"--precision": "fp32"}, {"--precision": None}, defaults={"--precision": "fp32"}) == {
        "--precision": None
    }
    with pytest.raises(UsageError, match="with 'int8', not 'fp32'"):
        pinned({"--precision": "fp32"}, {"--precision": "int8"}, defaults={"--precision": "fp32"})
    assert pinned({**nothing, "--of-tomorrow": None}, began) == {**began, "--of-tomorrow": None}
    for change, said in [
        ({"photos": ["a", "b"]}, "photos: the run that is to go on began with ['a'], not ['a', 'b']"),
        ({"--top": 5}, "--top: the run that is to go on began with 'all', not 5"),
        ({"--include": ["*.png"]}, "--include: the run that is to go on began without it"),
        ({"--of-tomorrow": 1}, "--of-tomorrow: the run that is to go on began without it"),
        ({"photos": ["x" * 10000] * 10000}, "photos: "),
    ]:
        with pytest.raises(UsageError) as caught:
            pinned({**nothing, **change}, began)
        assert str(caught.value).startswith(said) and len(str(caught.value)) < 1000
    with pytest.raises(UsageError, match="does not say how it began"):
        pinned(nothing, None)
