"""How well calibration, sets of names and hedged answers keep what they promise, on halves of photos.

usage: python bench/sureness.py [--runs N] [--print]

The photos are those of imagenet100 in the folder that PHOTOLABEL_SHARED names, or that lies beside the checkout as
`shared`; without it nothing is measured. N times they are split at random into halves: one teaches a calibration of the
bundled model, the other is what it is held against. Needs photolabel where it runs.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np

from photolabel import answer, calibration, confidence, load, models, tree

import common
from common import Bar
from nearness import SHARED

COVERAGE, LEAST, MOST = 0.95, 0.94, 0.97
SURE, RIGHT, INFORMATION = 0.9, 0.96, 0.75


def holds(found: answer.Answer, index: int, above: tree.Tree) -> bool:
    """Whether an answer is the class itself or a name above it; "unsure" says nothing wrong."""
    if found.kind == "unsure":
        return True
    row = next(i for i, node in enumerate(above.nodes) if node.wnid == found.wnid)
    return bool(above.under[row, index])


def main() -> None:
    args = common.options(__doc__, runs=200).parse_args()
    folder = SHARED / "data" / "imagenet100"
    if not folder.is_dir():
        print("sureness: skipped, for the shared photos are not beside this checkout")
        return
    with load(models.BUNDLED, calibrated=False) as classifier:
        labels, above = classifier.model.labels, classifier.tree
        assert above is not None
        place = {label.wnid: label.index for label in labels}
        photos = sorted(folder.iterdir())
        said = np.stack([each.probabilities for each in classifier.classify_many(photos)])
    truth = np.array([place[Path(photo).name.partition("_")[0]] for photo in photos])
    rng = np.random.default_rng(0)
    covered, sizes, right, information, silent = [], [], [], [], []
    before, after, temperatures = [], [], []
    for _ in range(args.runs):
        order = rng.permutation(len(truth))
        taught, held = order[: len(order) // 2], order[len(order) // 2 :]
        learnt = calibration.fit(said[taught], truth[taught])
        made = learnt.probabilities(said[held])
        sets = [learnt.names(each, COVERAGE) for each in made]
        covered.append(statistics.mean(index in names for names, index in zip(sets, truth[held], strict=True)))
        sizes.append(statistics.mean(map(len, sets)))
        answers = [answer.hedged(each, labels, above, sure=SURE) for each in made]
        right.append(statistics.mean(holds(a, i, above) for a, i in zip(answers, truth[held], strict=True)))
        information.append(statistics.mean(answer.information(a, len(labels), above) for a in answers))
        silent.append(statistics.mean(a.kind == "unsure" for a in answers))
        temperatures.append(learnt.temperature)
        hit = said[held].argmax(axis=1) == truth[held]
        before.append(confidence.bins(said[held].max(axis=1), hit).ece)
        after.append(confidence.bins(made.max(axis=1), hit).ece)
    mean = statistics.mean
    lines = [
        (
            f"`python bench/sureness.py`: {len(truth)} photos of ImageNet's, which the network was trained on, so the "
            f"figures flatter it; the bundled model, fp32; means over {args.runs} random halves of {len(truth) // 2}."
        ),
        "",
        *common.table(
            ["", "mean", "5 % to 95 % of the halves"],
            [
                (
                    what,
                    form.format(mean(values)),
                    " to ".join(form.format(x) for x in np.quantile(values, (0.05, 0.95))),
                )
                for what, values, form in (
                    ("temperature", temperatures, "{:.2f}"),
                    ("calibration error before", before, "{:.1%}"),
                    ("calibration error after", after, "{:.1%}"),
                    (f"truth in the {COVERAGE:.0%} set", covered, "{:.1%}"),
                    (f"names in the {COVERAGE:.0%} set", sizes, "{:.2f}"),
                    (f"answers at --sure {SURE:g} that are right", right, "{:.1%}"),
                    ("information in them, of all there could be", information, "{:.1%}"),
                    ('of them "unsure", which counts as right and says nothing', silent, "{:.1%}"),
                )
            ],
        ),
    ]
    bars = [
        Bar(f"truth in the {COVERAGE:.0%} set", f"{mean(covered):.1%}", f"{LEAST:.0%} to {MOST:.0%}",
            LEAST <= mean(covered) <= MOST),
        Bar(f"right at --sure {SURE:g}", f"{mean(right):.1%}", f"at least {RIGHT:.0%}", mean(right) >= RIGHT),
        Bar("information", f"{mean(information):.1%}", f"at least {INFORMATION:.0%}", mean(information) >= INFORMATION),
    ]  # fmt: skip
    sys.exit(0 if common.report("How sure", lines, bars, args=args, of="calibrate") else 1)


if __name__ == "__main__":
    main()
