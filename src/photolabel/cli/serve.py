"""photolabel serve: a service that names photos over HTTP."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .parser import Parser, add_max_pixels, add_model_options, whole
from .streams import complain

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..server import Settings

_HOST, _PORT = "127.0.0.1", 8000
_MOST_KEYS = 65_536  # bytes of a file of keys
_MOST_PORT = 65_535
# Those of `server.Settings`, which --help has no time to import.
QUEUE, PIXELS = 64, "50 million"


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel serve",
        description="Name photos over HTTP: curl --data-binary @mug.jpg http://127.0.0.1:8000/v1/classify. Ends when "
        "it is told to (Ctrl-C, SIGTERM), after those who wait have their answers.",
    )
    made.add_argument(
        "--host", default=_HOST, help=f"the address to listen at (default: {_HOST}, for this machine only)"
    )
    made.add_argument("--port", type=_port, default=_PORT, metavar="N", help=f"the port (default: {_PORT}; 0: any)")
    made.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="a file of keys, a line each, one of which every request must show; needed where others can reach the "
        "service. Or one key in PHOTOLABEL_API_KEY",
    )
    made.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which the service is called, as in photos.example; with a key also * for any",
    )
    made.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web page elsewhere that may call, as in https://photos.example",
    )
    made.add_argument(
        "--queue",
        type=whole,
        default=QUEUE,
        metavar="N",
        help=f"photos that may wait at once (default: {QUEUE}); more are refused with 429",
    )
    made.add_argument(
        "--workers", type=_workers, metavar="N", help="processes that decode photos (default: one a processor)"
    )
    add_max_pixels(made, default=PIXELS)
    made.add_argument("--no-page", action="store_true", help="without the page for people at /")
    add_model_options(made, several=True)
    return made


def _port(text: str) -> int:
    return 0 if text == "0" else whole(text, most=_MOST_PORT)


def _workers(text: str) -> int:
    return whole(text, most=256)


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)
    from ..extras import needed

    with needed("serve"):
        from ..server import running
    settings = _settings(args)
    running.listen(args.host, args.port, settings).close()  # what is wrong with it should not wait for the weights
    with ExitStack() as stack:
        classifiers = _loaded(args, settings, stack)
        running.serve(
            classifiers,
            host=args.host,
            port=args.port,
            settings=settings,
            listening=lambda url: complain(f"{', '.join(classifiers)} at {url}"),
        )
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from ..server import Settings

    defaults = Settings()
    return Settings(
        api_keys=_keys(args.api_key_file),
        hosts=tuple(name.lower() for name in args.allow_host),
        origins=tuple(origin.lower() for origin in args.allow_origin),
        queue=args.queue,
        files=min(defaults.files, max(1, args.queue // 2)),
        workers=args.workers,
        pixels=args.max_pixels or defaults.pixels,
        page=not args.no_page,
    )


def _keys(path: str | None) -> tuple[str, ...]:
    """The keys of the file, or the one of the environment; none where neither is given."""
    told = os.environ.get("PHOTOLABEL_API_KEY")
    if path is None:
        return () if told is None else (told,)
    if told is not None:
        raise UsageError("--api-key-file and PHOTOLABEL_API_KEY: expected one of them.")
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST_KEYS + 1).decode("ascii")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a file of keys: expected ASCII text, a key a line.") from error
    keys = tuple(filter(None, map(str.strip, text.splitlines())))
    if not keys or len(text) > _MOST_KEYS:
        raise UsageError(f"{path}: expected a key or a few, a line each.")
    return keys


def _loaded(args: argparse.Namespace, settings: Settings, stack: ExitStack) -> dict[str, Classifier]:
    """The classifiers by the names that requests call them by."""
    from ..images import Limits
    from .network import loaded

    asked = args.model or [None]
    if len(asked) > 1 and (args.weights is not None or args.recipe is not None or args.labels is not None):
        raise UsageError("--weights, --recipe and --labels go with one model.")
    limits = Limits(pixels=settings.pixels, file_bytes=settings.body_bytes)
    found: dict[str, Classifier] = {}
    for each in asked:
        name, model = _named(each)
        args.model = model
        classifier = stack.enter_context(loaded(args, limits))
        name = name or classifier.model.name
        if name in found:
            raise UsageError(f"two models are called {name}. Give one of them another name: --model NAME=FILE.")
        found[name] = classifier
    return found


def _named(model: str | None) -> tuple[str | None, str | None]:
    """The name and the model of NAME=MODEL; a file whose own name is like that is a file."""
    if model is None or "=" not in model or os.path.lexists(model):
        return None, model
    name, _, rest = model.partition("=")
    return name, rest
