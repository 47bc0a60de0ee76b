"""Text that may hold bytes which are no UTF-8, on its way into a file that is."""

from __future__ import annotations


def raw(text: str) -> bytes:
    """Return a text as UTF-8, in which the bytes that `os.fsdecode` smuggled into a name are themselves again.

    Windows' names may hold surrogates that stand for no byte. A text with one of these is encoded as Windows' own
    names are, so that there is no text without its bytes.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
