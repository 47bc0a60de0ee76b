"""What pipeline.py measures, in a fresh process.

usage: python bench/pipeline_run.py work FOLDER WEIGHTS.h5
       python bench/pipeline_run.py memory FOLDER WEIGHTS.h5

`work` goes through the photos of a folder three times: prepares them, has the network name what was prepared, and does
both as `classify_folder` does it; it prints the processor seconds of each, and the wall seconds of the last. Seconds
that the workers use are known once they have ended. `memory` goes through the folder once, prints how many photos had
no error when the last one is named, and waits for a line: then nothing is at work, and all can still be looked at.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from photolabel import Classifier, engine, load
from photolabel.batch import classify_folder
from photolabel.classifier import BATCH
from photolabel.prepared import Prepared, prepare


def processor_seconds() -> float:
    """Of this process and of its children, as far as they have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def took(work: Callable[[], object], clock: Callable[[], float]) -> float:
    begun = clock()
    work()
    return clock() - begun


def work(folder: Path, classifier: Classifier) -> dict[str, float]:
    photos, prepared = sorted(folder.iterdir()), list[Prepared]()

    def decode() -> None:
        prepared.extend(prepare(photo, classifier.recipe, limits=classifier.limits) for photo in photos)

    def name() -> None:
        for begin in range(0, len(prepared), BATCH):
            classifier.predict(prepared[begin : begin + BATCH])

    def both() -> None:
        for _ in classify_folder(folder, classifier):
            pass

    classifier.predict([prepare(photos[0], classifier.recipe)] * BATCH)  # what is done once is done
    # Of this thread alone: those of the network have nothing to do here.
    decoding = took(decode, time.thread_time)
    network = took(name, time.process_time)
    prepared.clear()
    begun = time.perf_counter()
    used = took(both, processor_seconds)
    return {
        "photos": len(photos),
        "processors": engine.available_threads(),
        "decoding": decoding,
        "network": network,
        "used": used,
        "wall": time.perf_counter() - begun,
    }


def memory(folder: Path, classifier: Classifier) -> None:
    count = len(list(folder.iterdir()))
    sound = 0
    for number, prediction in enumerate(classify_folder(folder, classifier), 1):
        sound += prediction.error is None
        if number == count:
            print(sound, flush=True)
            sys.stdin.readline()


def main() -> None:
    what, folder, weights = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    with load("vgg16", weights=weights, precision="int8") as classifier:
        if what == "work":
            print(json.dumps(work(folder, classifier)))
        else:
            memory(folder, classifier)


if __name__ == "__main__":
    main()
