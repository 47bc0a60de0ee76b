"""Decoders say nothing, and other threads are not silenced."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
from PIL import Image

from photolabel import errors, silence
from photolabel.images import read

from pictures import (
    CORE,
    PNG,
    REFERENCE,
    encoded,
    noisy_tiff,
    picture,
    pixels,
)


@pytest.mark.parametrize("handlers", [True, False])
def test_nothing_raw_reaches_stderr(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                    handlers: bool) -> None:  # fmt: skip
    if not handlers:  # as on Windows, where libtiff cannot be reached
        monkeypatch.setattr(silence, "_handlers_off", lambda: False)
    for _ in range(2):
        with contextlib.suppress(errors.PhotoError):
            read(noisy_tiff())
    os.write(2, b"still there")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "still there")


def test_libtiff_would_speak() -> None:
    """The test above can fail: without the silence there is something to hear."""
    program = textwrap.dedent("""
        import io, sys
        from PIL import Image
        try:
            Image.open(io.BytesIO(sys.stdin.buffer.read())).load()
        except OSError:
            pass
    """)
    done = subprocess.run([sys.executable, "-c", program], input=noisy_tiff(), capture_output=True, check=False)
    assert b"Fax" in done.stderr


def test_warnings_are_ignored_here_and_nowhere_else() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with silence.quiet():
            warnings.warn("inside", stacklevel=1)
            other = threading.Thread(target=warnings.warn, args=("of another thread",))
            other.start()
            other.join()
        warnings.warn("after", stacklevel=1)
    assert [str(entry.message) for entry in heard] == ["of another thread", "after"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with silence.quiet():
            warnings.warn("inside", stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("after", stacklevel=1)


def test_a_photo_that_makes_pillow_warn() -> None:
    data = bytearray(encoded(picture(), "TIFF"))
    where = struct.unpack_from("<I", data, 4)[0]
    for entry in range(where + 2, where + 2 + 12 * struct.unpack_from("<H", data, where)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] == 284:  # planar configuration: now 100,000 values, off the end
            struct.pack_into("<HHII", data, entry, 285, 2, 100_000, 60_000)
    with pytest.warns(UserWarning):
        Image.open(io.BytesIO(bytes(data)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(bytes(data)) == REFERENCE).all()


def test_many_threads() -> None:
    wrong: list[str] = []
    photos = [*CORE.values(), noisy_tiff(), PNG[:500]]

    def work() -> None:
        for data in photos:
            try:
                read(data)
            except errors.PhotoError:
                pass
            except BaseException as error:
                wrong.append(repr(error))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
