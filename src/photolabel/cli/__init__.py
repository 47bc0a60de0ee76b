"""The command line: a file a verb. Here: which verb it is, and what an error becomes.

Exit codes:
  0    all well
  1    some photo could not be read; the others were classified
  2    wrong usage
  3    a model, its weights, the cache, a cluster or an extra is not to be had; or the doctor found something FAILED
  4    the output could not be written
  70   a mistake in photolabel itself
  130  interrupted
  141  whoever read the output has gone (as in: photolabel ... | head)
  143  terminated (SIGTERM)
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from .. import __version__
from ..errors import (
    ClusterError,
    MissingExtraError,
    ModelError,
    OutputError,
    PhotoError,
    PhotolabelError,
    StoreError,
    UsageError,
)
from .streams import ReaderGoneError, Terminated, complain, prepare

# Verb -> what it does, in a line. Its module is photolabel.cli.VERB, imported only when it is called for.
VERBS = {
    "classify": "name what is in photos (the default: a first word that is no verb is a photo)",
    "look": "show what a network gets to see of a photo",
    "teach": "teach a network classes of your own, from photos in a folder a class",
    "evaluate": "say how right a model is, on photos whose classes are known",
    "calibrate": "learn from such photos how far its probabilities are to be believed",
    "explain": "show where in a photo the evidence for a name is",
    "summary": "print the table of a network's layers",
    "plot": "draw a network as PNG or SVG",
    "serve": "answer over HTTP",
    "models": "list, download, import, verify, remove and bundle models",
    "export": "write a model into a file for ONNX Runtime, Keras or PyTorch",
    "undo": "take back what --xmp wrote",
    "bench": "measure how fast this machine is",
    "doctor": "check that all is well with this installation",
}

EXIT_CODES: dict[type[PhotolabelError], int] = {
    PhotoError: 1,
    UsageError: 2,
    ModelError: 3,
    StoreError: 3,
    OutputError: 4,
    ClusterError: 3,
    MissingExtraError: 3,
}
_OUR_MISTAKE, _INTERRUPTED, _READER_GONE, _TERMINATED = 70, 130, 141, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's own, and return the exit code."""
    prepare()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except PhotolabelError as error:
        complain(str(error))
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    except KeyboardInterrupt as stop:
        complain(str(stop) or "interrupted")
        return _TERMINATED if isinstance(stop, Terminated) else _INTERRUPTED
    except ReaderGoneError:
        return _READER_GONE
    except Exception as error:
        if os.environ.get("PHOTOLABEL_DEBUG"):
            raise
        complain(
            f"a mistake in photolabel {__version__} ({type(error).__name__}). Please report it; with "
            "PHOTOLABEL_DEBUG=1 it shows where."
        )
        return _OUR_MISTAKE


def entry() -> NoReturn:
    """Run the process's own command line and end the process, at once.

    All that was to be said has been by then. Taking a gigabyte of network apart first, piece by piece, would be
    felt in a run of one photo, and the system takes it back anyway.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


def _run(argv: list[str]) -> int:
    verb, rest = "classify", argv
    if argv in (["help"], ["version"]) and not os.path.lexists(argv[0]):
        rest = [f"--{argv[0]}"]
    elif argv and argv[0] in VERBS:
        verb, rest = argv[0], argv[1:]
    elif argv:
        _check_spelling(argv[0])
    module = importlib.import_module(f".{verb}", __name__)
    code: int = module.run(rest)
    return code


def _check_spelling(word: str) -> None:
    """Raise if a first word looks like a verb misspelt: no file of that name, and nothing of a path about it."""
    close = difflib.get_close_matches(word, VERBS, n=1, cutoff=0.75)
    if close and word.isalpha() and not os.path.lexists(word):
        raise UsageError(f"{word!r} is neither a verb nor a file. Did you mean: photolabel {close[0]}")
