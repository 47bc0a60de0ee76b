"""What uploads make the system do, as strace sees it: no program is started, nobody is called, nothing is written."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from test_running import started

from crews import children, eventually

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("strace") is None, reason="strace is not installed"
)

TOKEN = "photolabel-was-here"
SEEN = "execve,execveat,fork,vfork,connect,bind,accept4,open,openat,openat2,creat,rename,renameat,renameat2,link,linkat"
SEEN += ",symlink,symlinkat,mkdir,mkdirat,mknod,mknodat,truncate,unlink,unlinkat,memfd_create,chmod,fchmodat"

_CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<words>.*)$")
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE")
_READS = {"open", "openat", "openat2"}
_HARMLESS = {"accept4"}


def strange(trace: str) -> list[str]:
    """The calls of a trace that uploads must not lead to; to open files for reading is not among them."""
    found = []
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match is None or match["name"] in _HARMLESS:
            continue
        nowhere = '"/dev/null"' in match["words"]
        if match["name"] not in _READS or (_WRITES.search(match["words"]) and not nowhere) or "passwd" in line:
            found.append(line)
    return found


@pytest.mark.parametrize(
    "line",
    [
        '12 execve("/usr/bin/gs", ["gs"], 0x7ffd /* 20 vars */) = 0',
        "12 connect(9, {sa_family=AF_INET, sin_port=htons(80)}, 16) = -1 EINPROGRESS",
        '12 openat(AT_FDCWD, "/tmp/magick-x", O_RDWR|O_CREAT|O_EXCL, 0600) = 9',
        '12 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 9',
        'openat(AT_FDCWD, "/var/x", O_WRONLY) = -1 EACCES',
        '12 rename("/tmp/a", "/tmp/b") = 0',
        '12 execve("/usr/bin/gs", ["gs"], 0x7ffd <unfinished ...>',
    ],
)
def test_what_is_strange_is_seen(line: str) -> None:
    assert strange(line) == [line]


@pytest.mark.parametrize(
    "line",
    [
        '12 openat(AT_FDCWD, "/usr/lib/python3/PIL/x.py", O_RDONLY|O_CLOEXEC) = 9',
        '12 openat(AT_FDCWD, "/dev/null", O_RDWR) = 9',
        "12 accept4(7, {sa_family=AF_INET}, [16], SOCK_CLOEXEC) = 9",
        "strace: Process 12 attached",
        "12 +++ exited with 0 +++",
        "12 <... openat resumed>) = 9",
    ],
)
def test_what_is_usual_is_not(line: str) -> None:
    assert strange(line) == []


@contextmanager
def traced(pid: int, trace: Path) -> Iterator[None]:
    """Have a process and its children watched; the trace is whole afterwards."""
    pids = [pid, *children(pid)]
    command = ["strace", "-f", "-q", "-qq", "-s", "300", "-e", f"trace={SEEN}", "-e", "signal=none", "-o", str(trace)]
    process = subprocess.Popen([*command, *(f"--attach={pid}" for pid in pids)], stderr=subprocess.PIPE)
    try:
        attached = eventually(lambda: process.poll() is not None or all(map(watched, pids)), 30)
        if process.poll() is not None or not attached:
            assert process.stderr is not None
            ready, _, _ = select.select([process.stderr], [], [], 0)
            pytest.skip(
                f"nothing can be traced here: {os.read(process.stderr.fileno(), 300)!r}" if ready else "no trace"
            )
        yield
        time.sleep(0.5)  # what an upload has begun
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        if process.stderr is not None:
            process.stderr.close()


def watched(pid: int) -> bool:
    """Whether all threads of a process are traced."""
    return all(
        re.search(r"^TracerPid:\s+[1-9]", (each / "status").read_text(), re.MULTILINE)
        for each in Path(f"/proc/{pid}/task").iterdir()
    )


DOES = """
import os, socket, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input(); open('by the child', 'w')"], stdin=subprocess.PIPE)
print(flush=True)
input()
open("by itself", "w")
child.communicate(b"\\n")
subprocess.run(["true"])
socket.socket().connect_ex(("127.0.0.1", 1))
"""


def test_the_trace_sees_what_a_process_and_its_children_do(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", DOES], stdin=pipe, stdout=pipe, cwd=tmp_path)
    try:
        assert process.stdout is not None and process.stdout.readline()
        with traced(process.pid, trace):
            process.communicate(b"\n", timeout=60)
    finally:
        process.kill()
        process.wait()
    found = "\n".join(strange(trace.read_text()))
    for what in ('"by itself"', '"by the child"', "execve(", "connect("):
        assert what in found


def bodies(marker: Path, canary: str) -> list[bytes]:
    """Files that other decoders would have run, read or fetched."""
    svg = (
        f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{canary}"/><text>&x;{TOKEN}</text></svg>'
    )
    mvg = f"push graphic-context\nviewbox 0 0 9 9\nfill 'url({canary}\"|touch \"{marker})'\npop graphic-context\n"
    texts = [
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({marker}) (w) file ({TOKEN}) writestring showpage\n",
        f"%!PS\n(%pipe%touch {marker}) (w) file\n", svg, mvg,
        f"<image><read filename='{canary}'/><write filename='{marker}'/></image>",
        f"%PDF-1.4\n1 0 obj << /S /Launch /F (touch {marker}) /URI ({canary}) >> endobj\n%%EOF {TOKEN}\n",
        canary, "file:///etc/passwd", "/etc/passwd", "@/etc/passwd", "../../../../etc/passwd", "\\\\host\\share\\x.png",
        f"msl:{marker}", f"ephemeral:{marker}", f"label:@/etc/passwd {TOKEN}", f"|touch {marker}", f"$(touch {marker})",
        f"#!/bin/sh\ntouch {marker}\n", f"#define x_width 9\n#define x_height 9\nstatic char x[] = {{ {TOKEN} }};",
        f"cos\nsystem\n(S'touch {marker}'\ntR.", f"#EXTM3U\n{canary}\n", f"v 1\n{TOKEN}",
    ]  # fmt: skip
    binary = [
        b"\xd7\xcd\xc6\x9a", b"PK\x03\x04../../x", b"\x1f\x8b", b"II*\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n", b"GIF89a",
        b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBP", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavif", b"8BPS\0\1",
        b"\0\0\1\0\1\0",
    ]  # fmt: skip
    return [*(each.encode() for each in texts), *(each + TOKEN.encode() for each in binary)]


def test_uploads_start_nothing_call_nobody_and_write_nothing(tiny: Path, photo: Path, tmp_path: Path) -> None:
    scratch, marker, trace = tmp_path / "scratch", tmp_path / "marker", tmp_path / "trace"
    scratch.mkdir()
    environment = {"TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        started("--model", str(tiny), environment=environment, cwd=scratch) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        canary = f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}.png"
        uploads = bodies(marker, canary)
        assert client.post("/v1/classify", content=photo.read_bytes()).status_code == 200
        workers = children(service.process.pid)
        with traced(service.process.pid, trace):
            for body in uploads:
                assert client.post("/v1/classify", content=body).status_code in (413, 415, 422)
            names = ["|touch x.png", "../../x.png", "/etc/passwd", f"$(touch {marker})", "https:x", "msl:x", "x\0.eps"]
            for name in names:
                form = {"photo": (name, uploads[0])}
                assert client.post("/v1/classify", files=form).status_code in (400, 415)
                assert client.post("/v1/classify/batch", files=form).status_code in (200, 400)
            for name in ("url", "path", "file", "photo", "image", "src", "callback"):
                for value in (canary, "/etc/passwd", "file:///etc/passwd"):
                    assert client.post("/v1/classify", params={name: value}, content=b"x").status_code == 422
            for value in (canary, "/etc/passwd", "../tiny", str(tiny), "x" * 200):
                assert client.post("/v1/classify", params={"model": value}, content=b"x").status_code == 404
                assert client.get("/v1/labels", params={"model": value}).status_code == 404
            for path in ("/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/docs/..%2f..%2fetc/passwd", "//etc/passwd"):
                assert client.get(path).status_code in (400, 404)
            large = photo.read_bytes() + os.urandom(9_000_000) + TOKEN.encode()  # more than is kept in memory elsewhere
            assert client.post("/v1/classify", files={"photo": ("large.png", large)}).status_code in (200, 422)
            assert client.post("/v1/classify", content=photo.read_bytes()).status_code == 200
        assert not select.select([listening], [], [], 0)[0]
        assert children(service.process.pid) == workers
        seen = trace.read_text("utf-8", "replace")
        assert strange(seen) == []
        assert not marker.exists() and not list(scratch.iterdir())
        for folder in (scratch, Path(os.environ["PHOTOLABEL_CACHE"])):
            for path in folder.rglob("*"):
                assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
        httpx.get(f"{service.url}/v2/health/live")
        assert service.end() == 0
    assert TOKEN not in "".join(service.lines)
