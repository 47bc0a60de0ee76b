"""A folder of hard photos and special files beside the good ones of them alone: one record each, in hardly more time.

usage: python bench/hard_folder.py [--runs N] [--print]

The photos are those of hard-images in the folder that PHOTOLABEL_SHARED names, or that lies beside the checkout as
`shared`; without it nothing is measured. Whole processes, interleaved. For Linux; needs photolabel where it runs.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import common
from common import Bar, Whole
from nearness import SHARED

MOST_SECONDS = 5.0
HOSTILE = [b"=1+1.jpg", b"-rf.jpg", b"@SUM(A1).jpg", b"a\nb.jpg", b"\x1b[31mred.jpg", b"\xff\xfe.jpg", b'",".jpg',
           b" .jpg", b"..jpg.jpg", "\u202egpj.exe.jpg".encode(), b"x" * 251 + b".jpg"]  # fmt: skip


def special(folder: Path, photo: Path) -> None:
    """What else lies in folders."""
    folder.mkdir()
    for name in HOSTILE:
        shutil.copy(photo, os.path.join(os.fsencode(folder), name))  # noqa: PTH118  # no UTF-8
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zeros.jpg").symlink_to("/dev/zero")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    (folder / "nowhere.jpg").symlink_to("not-there.jpg")
    (folder / "loop").symlink_to(folder)
    (folder / "empty.jpg").touch()
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(8 << 30)
    shutil.copy(photo, folder / "secret.jpg")
    (folder / "secret.jpg").chmod(0)
    (folder / "folder.jpg").mkdir()
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may be short only
    server.bind("socket.jpg")
    os.chdir(here)
    server.close()


def listed(folder: Path) -> list[bytes]:
    """All that is in a folder and is none itself, whatever it is called; as `find ! -type d` has it."""
    return sorted(
        os.path.join(here, name)  # noqa: PTH118  # no UTF-8
        for here, _, names in os.walk(os.fsencode(folder))
        for name in names
    )


def main() -> None:
    args = common.options(__doc__, runs=5).parse_args()
    table = SHARED / "data" / "hard-images.tsv"
    if not table.is_file():
        print("hard folder: skipped, for the shared photos are not beside this checkout")
        return
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    source = SHARED / "data" / "hard-images"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for row in rows:
            for folder in ("all", "good") if row["category"] == "ok" else ("all",):
                target = work / folder / row["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / row["path"], target)
        special(work / "all" / "special", common.ROOT / "samples" / "coffee.jpg")
        command = [sys.executable, "-P", "-m", "photolabel", "--model", "efficientnet-lite2", "--json"]
        out = work / "records"
        out.mkdir()
        runs, counts = {}, {}
        for folder in ("all", "good"):
            names, answers = work / f"{folder}.list", out / folder
            entries = listed(work / folder)
            names.write_bytes(b"".join(entry + b"\0" for entry in entries))
            counts[folder] = len(entries)
            runs[folder] = Whole(
                folder, ["sh", "-c", '"$@" > "$0" || test $? = 1', str(answers), *command, "--from", str(names)]
            )
        for run in range(args.runs + 1):
            for whole in runs.values():
                whole.run()
                if run == 0:
                    whole.forget()
        found = {
            folder: [json.loads(line) for line in (out / folder).read_text("ascii").splitlines()] for folder in runs
        }
    photos, expected = [record["photo"] for record in found["all"]], counts["all"]
    more = runs["all"].time - runs["good"].time
    failed = sum(record["error"] is not None for record in found["all"])
    lines = [
        (
            "`python bench/hard_folder.py`: hard photos and special files in one list, and the good photos of them "
            f"alone; whole processes, interleaved, medians of {args.runs} runs."
        ),
        f"{common.machine()}.",
        "",
        *common.table(
            ["list", "records", "of them errors", "seconds"],
            [
                ("all", f"{len(photos)}", f"{failed}", f"{runs['all'].time:.2f}"),
                ("good ones", f"{len(found['good'])}", f"{sum(r['error'] is not None for r in found['good'])}",
                 f"{runs['good'].time:.2f}"),
            ],
        ),
    ]  # fmt: skip
    bars = [
        Bar("records", f"{len(photos)}", f"{expected}, one each", len(photos) == len(set(photos)) == expected),
        Bar("more seconds than the good ones alone", f"{more:.2f}", f"at most {MOST_SECONDS:g}", more <= MOST_SECONDS),
    ]
    sys.exit(0 if common.report("A hard folder", lines, bars, args=args, of="all") else 1)


if __name__ == "__main__":
    main()
