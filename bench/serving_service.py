"""What serving.py measures, in fresh processes: the service with other settings, and the library beside it.

usage: python bench/serving_service.py serve [--batch N] [--leak BYTES]
       python bench/serving_service.py folder FOLDER
       python bench/serving_service.py answers FOLDER

`serve` is `photolabel serve --precision int8` with the bundled model, where more can be set than the command line has;
with --leak every request leaves so many bytes behind, so that a bench which looks for leaks has one to find. `folder`
goes through the folder `photos` in FOLDER with `classify_folder` once a line that it reads, and prints the seconds.
`answers` prints for each file of FOLDER what the library says of it: the line of its record, or the code of its error.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import photolabel
from photolabel import output
from photolabel.batch import classify_folder
from photolabel.errors import PhotoError
from photolabel.images import Limits

MODEL = {"model": "efficientnet-lite2", "precision": "int8"}


class Leak:
    """An application in which each request leaves something behind."""

    kept: list[bytes] = []  # noqa: RUF012  # that is the point

    def __init__(self, app: Any, count: int) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.kept.append(b"x" * self._count)
        await self._app(scope, receive, send)


def serve(args: argparse.Namespace) -> None:
    from photolabel.server import Settings, running

    settings = Settings(batch=args.batch or Settings().batch, api_keys=tuple(args.key))
    if args.leak:
        plain = running.create_app

        def leaking(*given: Any, **named: Any) -> Any:
            app = plain(*given, **named)
            app.add_middleware(Leak, count=args.leak)
            return app

        running.create_app = leaking  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when all is done
    with photolabel.load(**MODEL) as classifier:
        running.serve(
            classifier, port=0, settings=settings, listening=lambda url: print(f"at {url}", file=sys.stderr, flush=True)
        )


def folder(place: Path) -> None:
    with photolabel.load(**MODEL) as classifier:
        for _ in classify_folder(place, classifier):  # what is done once is done
            pass
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            begun = time.perf_counter()
            failed = sum(each.error is not None for each in classify_folder(place, classifier))
            print(json.dumps({"seconds": time.perf_counter() - begun, "failed": failed}), flush=True)


def answers(place: Path) -> None:
    from photolabel.server import Settings

    settings = Settings()
    limits = Limits(pixels=settings.pixels, file_bytes=settings.body_bytes)
    with photolabel.load(**MODEL, limits=limits) as classifier:
        for path in sorted(place.iterdir()):
            try:
                said = [200, output.json_line(classifier.classify(path.read_bytes()).record())]
            except PhotoError as error:
                said = [0, error.code]
            print(json.dumps([path.name, *said]), flush=True)


def main() -> None:
    if sys.argv[1] == "folder":
        folder(Path(sys.argv[2]) / "photos")
    elif sys.argv[1] == "answers":
        answers(Path(sys.argv[2]))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("what")
        parser.add_argument("--batch", type=int)
        parser.add_argument("--leak", type=int, default=0)
        parser.add_argument("--key", action="append", default=[])
        serve(parser.parse_args())


if __name__ == "__main__":
    main()
