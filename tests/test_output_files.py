"""Views of records in files: whole or not at all, harmless in a spreadsheet, and names lead to the same file."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from photolabel import output
from photolabel.answer import Answer
from photolabel.errors import CorruptPhotoError, MissingExtraError, OutputError, UsageError
from photolabel.output import csvs, files, parquet
from photolabel.prediction import Calibrated, Names, Opinion, Opinions, Prediction, RankedLabel, Truth
from photolabel.prepared import Decoding, File

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # full-width ones too
NUMBERS = {"probability", "bytes", "width", "height", "orientation", "scale", "agreement", "truth_rank"}
anything = st.text(st.characters(exclude_categories=[]))  # surrogates and control characters too
dangerous = st.builds("{}{}".format, st.sampled_from([*DANGEROUS, " =", "\0=", "\ufeff=", "\udcff="]), anything)
texts = anything | dangerous
names = st.binary(min_size=1).map(os.fsdecode) | dangerous
posix = pytest.mark.skipif(sys.platform == "win32", reason="names are no bytes there")


def record(
    photo: str | None = "mug.jpg",
    name: str = "coffee_mug",
    *,
    message: str | None = None,
    labels: int = 2,
    text: str = "x",
    more: bool = False,
) -> dict[str, Any]:
    """A record of a photo, or with a message one of an error; `text` wherever else there is one.

    `more`: with all that only some records have.
    """
    known = {
        "photo": photo,
        "model": text,
        "recipe": "crop",
        "precision": "fp32",
        "file": File(sha256="ab" * 32, bytes=1234),
    }
    if message is not None:
        return Prediction(error=CorruptPhotoError(message), **known).record()  # type: ignore[arg-type]
    ranked = [
        RankedLabel(index=i, wnid=None if i % 2 else "n03063599", name=f"{name}{i or ''}", probability=0.75 / 2**i)
        for i in range(labels)
    ]
    decoding = Decoding(
        format=text, width=4000, height=3000, orientation=6, scale=4, mode="RGB", profile=True, transparent=False
    )
    if more:
        label = RankedLabel(index=1, wnid="n03063599", name=text, probability=0.5, everyday=text)
        opinion = Opinion(model=text, recipe=text, views=10, label=label, agreement=0.7)
        known |= {
            "answer": Answer(kind="unsure", wnid=text, name=text, probability=0.5, everyday=text, reason=text),  # type: ignore[arg-type]
            "names": Names(coverage=0.95, labels=(label, label)),
            "opinions": Opinions(agreement=0.7, members=(opinion,)),
            "calibration": Calibrated(digest=text, temperature=1.5),
            "truth": Truth(index=1, wnid=text, name=text, probability=0.25, rank=2),
        }
        ranked = [label]
    return Prediction(labels=tuple(ranked), decoding=decoding, **known).record()  # type: ignore[arg-type]


def lines(*records: dict[str, Any]) -> list[bytes]:
    return [f"{output.json_line(each)}\n".encode("ascii") for each in records]


def as_csv(*records: dict[str, Any], labels: int = 2) -> bytes:
    file = io.BytesIO()
    csvs.write(file, lines(*records), labels)
    return file.getvalue()


def rows(data: bytes) -> list[dict[str, str]]:
    """As docs/records.md says that it is read."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline="")
    return list(csv.DictReader(text, strict=True))


def as_parquet(*records: dict[str, Any]) -> Any:
    import pyarrow.parquet

    file = io.BytesIO()
    parquet.write(file, lines(*records), 2)
    return pyarrow.parquet.read_table(io.BytesIO(file.getvalue()))


def never() -> Iterator[bytes]:
    yield pytest.fail("records were asked for")


def here(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- any view


def test_what_there_is(tmp_path: Path) -> None:
    assert list(files.VIEWS) == [".jsonl", ".ndjson", ".csv", ".txt", ".parquet"]
    for ending in files.VIEWS:
        for path in (tmp_path / f"x{ending}", tmp_path / f"y{ending.upper()}"):
            files.check(path)
            assert not path.exists()
            files.write(path, lines(record(), record(message="cut short")), labels=2)
            assert path.stat().st_size > 50


@pytest.mark.parametrize("name", ["x", "x.json", "x.xlsx", ".csv", "csv", "x.csv.gz", "x.csv ", ""])
def test_another_ending_is_an_error_that_says_what_there_is(tmp_path: Path, name: str) -> None:
    for refused in (files.check, lambda path: files.write(path, lines(record()), labels=2)):
        with pytest.raises(UsageError, match=r"ends in one of \.jsonl, \.ndjson, \.csv, \.txt, \.parquet\.$"):
            refused(tmp_path / name)
    assert not here(tmp_path)


@pytest.mark.parametrize("ending", files.VIEWS)
def test_a_place_that_cannot_be_written_is_said_before_any_work(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"folder{ending}").mkdir()
    for name in (f"folder{ending}", f"missing/x{ending}"):
        with pytest.raises(OutputError, match="cannot be written"):
            files.check(tmp_path / name)
        with pytest.raises(OutputError, match="cannot be written"):
            files.write(tmp_path / name, never(), labels=2)


@pytest.mark.parametrize("ending", files.VIEWS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, CorruptPhotoError, RuntimeError])
def test_records_that_end_in_an_error_leave_nothing(tmp_path: Path, ending: str, error: type[BaseException]) -> None:
    def broken() -> Iterator[bytes]:
        yield from lines(record()) * 2500
        raise error("no")

    path = tmp_path / f"x{ending}"
    for before in (None, b"before"):
        if before:
            path.write_bytes(before)
        with pytest.raises(error):
            files.write(path, broken(), labels=2)
        assert here(tmp_path) == ([path.name] if before else [])
    assert path.read_bytes() == b"before"


class Full(io.BytesIO):
    """A disk with room for a beginning."""

    def write(self, data: Any) -> int:
        if self.tell() > 1000:
            raise OSError(28, "No space left on device")
        return super().write(data)

    def writelines(self, chunks: Iterable[Any]) -> None:
        for chunk in chunks:
            self.write(chunk)


@pytest.mark.parametrize("ending", files.VIEWS)
def test_a_full_disk_stays_an_os_error(ending: str) -> None:
    """`writing.whole` makes one of ours of it."""
    with pytest.raises(OSError, match="No space left") as caught:
        files.VIEWS[ending](Full(), lines(*(record(f"{i}") for i in range(3000))), 2)
    assert caught.value.errno == 28


@pytest.mark.parametrize("ending", files.VIEWS)
def test_records_are_taken_as_they_come(ending: str) -> None:
    """A hundred thousand are never held at once: what is written grows while they come."""
    file, seen = io.BytesIO(), []

    def coming() -> Iterator[bytes]:
        for i in range(30):
            yield from lines(*(record(f"{i}-{j}") for j in range(100)))
            seen.append(file.tell())

    files.VIEWS[ending](file, coming(), 2)
    assert seen == sorted(seen) and len(set(seen)) >= 3


@pytest.mark.parametrize("ending", files.VIEWS)
def test_memory_does_not_grow_with_the_records(tmp_path: Path, ending: str) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        files.write(tmp_path / f"x{ending}", (line for _ in range(count) for line in some), labels=2)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    some = lines(record(), record(message="cut short"))
    peak(1)
    assert peak(6000) < peak(1500) + 200_000


@pytest.mark.parametrize("ending", files.VIEWS)
def test_no_records_make_an_empty_file_that_can_be_read(tmp_path: Path, ending: str) -> None:
    import pyarrow.parquet

    path = tmp_path / f"x{ending}"
    files.write(path, iter(()), labels=3)
    if ending == ".parquet":
        table = pyarrow.parquet.read_table(path)
        assert table.num_rows == 0 and table.schema.names == as_parquet(record()).schema.names
    elif ending == ".csv":
        assert path.read_bytes() == (",".join(csvs.columns(3)) + "\r\n").encode()
    else:
        assert path.read_bytes() == b""


def test_a_thousand_labels(tmp_path: Path) -> None:
    records = [record(f"{i}.jpg", labels=1000) for i in range(120)]
    made = lines(*records)
    for ending in files.VIEWS:
        files.write(tmp_path / f"x{ending}", made, labels=1000)
    with (tmp_path / "x.csv").open(newline="") as file:
        for row, each in zip(csv.DictReader(file), records, strict=True):
            assert len(row) == 25 + 2000
            assert [row[f"name_{i + 1}"] for i in range(1000)] == [label["name"] for label in each["labels"]]
            assert float(row["probability_1000"]) == each["labels"][999]["probability"]
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(tmp_path / "x.parquet") as table:
        assert table.num_row_groups > 2  # by their bytes: a thousand such records are 80 MB of JSON
        assert table.read(["labels"]).to_pylist() == [{"labels": each["labels"]} for each in records]


# -- JSONL and text


@given(st.lists(st.builds(record, texts, texts) | st.builds(record, texts, message=texts)))
def test_jsonl_is_verbatim(records: list[dict[str, Any]]) -> None:
    for ending in (".jsonl", ".ndjson"):
        file = io.BytesIO()
        files.VIEWS[ending](file, iter(lines(*records)), 2)
        assert file.getvalue() == b"".join(lines(*records))


@given(st.lists(st.builds(record, texts, texts) | st.builds(record, texts, message=texts)))
@example([record(None), record("a\nb\udcff.jpg", "café"), record(message="cut\nshort")])
def test_text_is_the_line_of_a_terminal(records: list[dict[str, Any]]) -> None:
    file = io.BytesIO()
    files.VIEWS[".txt"](file, lines(*records), 2)
    shown = file.getvalue().decode("utf-8").split("\n")
    assert shown == [*(output.line(each, named=True) for each in records), ""]


# -- CSV


def test_the_columns_of_csv() -> None:
    head = ["photo", "kind", "name", "wnid", "probability"]
    tail = ["error_code", "error_message", "model", "recipe", "precision", "sha256", "bytes"]
    tail += ["format", "width", "height", "orientation", "scale"]
    tail += ["everyday", "reason", "names", "agreement", "truth_name", "truth_wnid", "truth_probability", "truth_rank"]
    ranked = ["name_1", "probability_1", "name_2", "probability_2"]
    assert csvs.columns(0) == [*head, *tail] and csvs.columns(2) == [*head, *ranked, *tail]


def test_the_rows_of_csv() -> None:
    digest = "ab" * 32
    made = as_csv(record("café, 1.jpg"), record(labels=1), record(None, message='no "photo"'), labels=2)
    told, rest = f"x,crop,fp32,{digest},1234", f",x,4000,3000,6,4{',' * 8}"
    assert made.decode("utf-8").split("\r\n") == [
        ",".join(csvs.columns(2)),
        f'"café, 1.jpg",leaf,coffee_mug,n03063599,0.75,coffee_mug,0.75,coffee_mug1,0.375,,,{told}{rest}',
        f"mug.jpg,leaf,coffee_mug,n03063599,0.75,coffee_mug,0.75,,,,,{told}{rest}",
        f',,,,,,,,,corrupt-photo,"no ""photo""",{told},,,,,,,,,,,,,',
        "",
    ]


def test_a_photo_from_memory_in_csv() -> None:
    made = {**record(None), "file": None, "decoding": None}
    (row,) = rows(as_csv(made))
    assert {key for key, cell in row.items() if not cell} == {
        *("photo", "error_code", "error_message"),
        *("sha256", "bytes", "format", "width", "height", "orientation", "scale"),
        *(column for column in row if column.startswith("truth_")),
        *("everyday", "reason", "names", "agreement"),
    }
    (row,) = rows(as_csv(record(more=True)))
    assert row["everyday"] == row["reason"] == row["truth_name"] == row["truth_wnid"] == "x"
    assert (row["names"], row["agreement"], row["truth_probability"], row["truth_rank"]) == ("x; x", "0.7", "0.25", "2")


def test_more_labels_than_announced_are_no_ragged_row() -> None:
    with pytest.raises(UsageError, match="3 labels where at most 2"):
        as_csv(record(labels=3), labels=2)


@posix
@given(st.lists(names, min_size=1))
@example(["a\nb.jpg", "a\r\nb", "\r", '"', 'a"b,c;d\te', "caf\udce9", "\udced\udca0\udc80", "-", "=1+1", "'=x", "./-x"])
@example(["＝1", "\udcef\udcbc\udc9d1", "\udcff=1", " =1", "\x1b[31m", "\ufeff-", "\u2028"])  # noqa: RUF001
def test_the_bytes_of_a_name_survive_csv(photos: list[str]) -> None:
    read = [row["photo"] for row in rows(as_csv(*map(record, photos)))]
    for cell, photo in zip(read, photos, strict=True):
        try:
            name = os.fsencode(photo)
        except UnicodeEncodeError:  # no name that could be
            continue
        assert os.fsencode(cell) in (name, b"./" + name)
        assert cell.startswith("./") or not photo.startswith(DANGEROUS)
        assert cell == photo or photo.lstrip("\0 \ufeff\udcff").startswith(DANGEROUS) or not photo.isprintable()


@posix
@pytest.mark.parametrize("name", ["=1+1.jpg", "-x.jpg", "+.jpg", "@.jpg", "\tx.jpg", "a\nb,\"'.jpg", "＠.jpg"])  # noqa: RUF001
@pytest.mark.parametrize("tail", ["", "\udcff"])
def test_the_cell_of_a_photo_leads_to_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tail: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{name}{tail}").write_text(name)
    (row,) = rows(as_csv(record(f"{name}{tail}")))
    assert Path(row["photo"]).read_text() == name


@given(photo=texts, name=texts, message=texts, text=texts)
@example("=1", "=2", "=3", "=4")
@example("\udcff=1", " =2", "\ufeff+3", "\0-4")
@example("\udcef\udcbc\udc9d", "\ud800=", "\udc7f", "\udcff\ud800")
def test_no_cell_is_a_formula(photo: str, name: str, message: str, text: str) -> None:
    """Also to a program that leaves out what is no UTF-8, and blanks."""
    made = as_csv(
        record(photo, name, text=text), record(photo, message=message, text=text), record(photo, text=text, more=True)
    )
    for errors in ("surrogateescape", "ignore", "replace"):
        read = list(csv.reader(io.StringIO(made.decode("utf-8", errors), newline="")))
        assert len(read) == 4 and {len(row) for row in read} == {29}
        for row in read[1:]:
            for column, cell in zip(read[0], row, strict=True):
                assert not cell.startswith(DANGEROUS)
                assert not cell.lstrip(" \0\ufeff").startswith(DANGEROUS)
                if column.rpartition("_")[0] in NUMBERS or column in NUMBERS:
                    assert not cell or float(cell) >= 0


def test_numbers_stay_numbers_and_texts_stay_texts() -> None:
    made = record("a.jpg", "-x")
    made["labels"][1]["probability"] = 1e-9
    (row,) = rows(as_csv(made))
    assert row["name"] == row["name_1"] == "'-x" and row["probability_2"] == "1e-09"


@given(texts)
def test_every_text_can_be_written(text: str) -> None:
    (row,) = rows(as_csv(record(text)))
    with_surrogates = row["photo"].removeprefix("./").encode("utf-8", "surrogateescape")
    try:
        assert with_surrogates == text.removeprefix("./").encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # as Windows stores such a name
        assert with_surrogates == text.removeprefix("./").encode("utf-8", "surrogatepass")


# -- Parquet


def test_parquet_is_the_records() -> None:
    made = [record(f"{i}.jpg", labels=i % 3 + 1) for i in range(2100)]
    made += [
        record(more=True),
        record("é\n.jpg", message="cut short"),
        {**record(None), "file": None, "decoding": None},
    ]
    read = as_parquet(*made).to_pylist()
    assert [each.pop("photo_bytes") for each in read] == [each["photo"] and os.fsencode(each["photo"]) for each in made]
    assert read == made


def shape(value: Any) -> Any:
    """The fields of a record, their order, and the types of a Parquet file for them."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])]
    return {str: "string", bytes: "binary", int: "int64", float: "double", bool: "bool"}[type(value)]


def written(kind: Any) -> Any:
    import pyarrow.types

    if pyarrow.types.is_struct(kind):
        return {kind.field(i).name: written(kind.field(i).type) for i in range(kind.num_fields)}
    return [written(kind.value_type)] if pyarrow.types.is_list(kind) else str(kind)


def test_the_types_of_parquet_are_those_of_a_record() -> None:
    """Whichever records come: a file of errors only has the same columns."""
    expected = record(more=True) | {"error": record(message="cut short")["error"], "photo_bytes": b"mug.jpg"}
    for made in (record(), record(more=True), record(message="cut short")):
        schema = as_parquet(made).schema
        assert json.dumps({field.name: written(field.type) for field in schema}) == json.dumps(
            {name: shape(expected[name]) for name in ("schema", "photo", "photo_bytes", *list(record())[2:])}
        )


@posix
@settings(deadline=None)  # the first example imports pyarrow
@given(st.lists(texts, min_size=1, max_size=5), texts)
@example(["a\udcff.jpg", "a.jpg", "\\xff", "a\n\x1b"], "caf\udce9")
def test_any_text_in_parquet(photos: list[str], text: str) -> None:
    made = [*(record(photo, text, text=text) for photo in photos), record(message=text)]
    for row, each in zip(as_parquet(*made).to_pylist(), made, strict=True):
        photo, name = each["photo"], row.pop("photo_bytes")
        assert os.fsdecode(name) == photo or not encodable(photo)
        plain = all(map(utf8, [photo, text]))
        assert (row == each) or not plain
        assert row["photo"] == photo or not utf8(photo)
        assert all(map(utf8, [row["photo"], row["model"]]))


def encodable(text: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(text)) == text
    except UnicodeEncodeError:
        return False


def utf8(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def test_what_is_no_utf_8_is_escaped_in_parquet_and_its_bytes_kept() -> None:
    read = as_parquet(record("a\udcff\n.jpg"), record("\ud800"), record("b\\xff.jpg")).to_pylist()
    assert [each["photo"] for each in read] == ["a\\xff\n.jpg", "\\xed\\xa0\\x80", "b\\xff.jpg"]
    assert [each["photo_bytes"] for each in read] == [b"a\xff\n.jpg", b"\xed\xa0\x80", b"b\\xff.jpg"]


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    path = tmp_path / "x.parquet"

    for refused in (files.check, lambda path: files.write(path, never(), labels=2)):
        with pytest.raises(MissingExtraError, match=r"needs pyarrow.*pip install 'photolabel\[parquet\]'"):
            refused(path)
    assert not here(tmp_path)
    files.check(tmp_path / "x.csv")
    files.write(tmp_path / "x.csv", lines(record()), labels=2)


def test_fields_that_a_later_version_adds_do_no_harm() -> None:
    made = record()
    added = json.loads(json.dumps(made)) | {"new": 1}
    added["answer"]["new"] = added["labels"][0]["new"] = [1]
    assert as_parquet(added).equals(as_parquet(made)) and as_csv(added) == as_csv(made)
