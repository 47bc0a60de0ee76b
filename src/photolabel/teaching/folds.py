"""Photos dealt into folds: each is judged by a head that has seen neither it nor its like. And parts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER = -1  # of photos that are in no fold: they are learnt from, and never judged


def deal(truth: NDArray[np.intp], groups: NDArray[np.intp], *, most: int, seed: int) -> NDArray[np.intp]:
    """Return the fold of each photo, (photos,): 0, 1, ... or NEVER.

    `truth` are the photos' classes and `groups` say which belong together, both (photos,). A group goes into one fold.
    Each class is spread over the folds as evenly as its groups allow, by chance but for the `seed`. There are as many
    folds as the class of the most groups has, but no more than `most`. A class of one group is in no fold: a head that
    has never seen a class cannot be judged by it.
    """
    random = np.random.default_rng(seed)
    classes = int(truth.max(initial=0)) + 1
    pairs, counts = np.unique(np.stack([groups, truth]), axis=1, return_counts=True)
    # A group of two classes, as of a photo that lies in both folders, counts as of the one that it has more photos of.
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    names, first = np.unique(pairs[0][order], return_index=True)
    of_class = pairs[1][order][first]
    sizes = np.bincount(np.searchsorted(names, groups))
    of_each = np.bincount(of_class, minlength=classes)
    folds = int(min(most, of_each.max(initial=0)))
    if folds < 2:
        return np.full(len(truth), NEVER)
    held = np.zeros((classes, folds), np.int64)  # photos
    fold = np.full(len(names), NEVER)
    # The large ones first: small ones fill up what these leave uneven.
    shuffled = random.permutation(len(names))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():
        mine = int(of_class[group])
        if of_each[mine] < 2:
            continue
        emptiest = held[mine] == held[mine].min()
        fold[group] = int(np.argmin(np.where(emptiest, held.sum(axis=0), np.iinfo(np.int64).max)))
        held[mine, fold[group]] += sizes[group]
    return fold[np.searchsorted(names, groups)]


def portion(
    truth: NDArray[np.intp], groups: NDArray[np.intp], *, share: float, least: int, seed: int
) -> NDArray[np.intp]:
    """Return the indices, in their order, of a `share` of the photos of each class, 0..1, but of `least` photos or all.

    `truth` are the photos' classes and `groups` say which belong together, numbered from 0, both (photos,). Which come
    is chance but for the `seed`; a group comes whole, or not at all, but for the one at the edge of its class. A larger
    share by the same seed has all the photos of a smaller one.
    """
    if share >= 1:
        return np.arange(len(truth))
    rank = np.random.default_rng(seed).permutation(int(groups.max(initial=0)) + 1)[groups]
    order = np.lexsort((rank, truth))
    counts = np.bincount(truth)
    place = np.arange(len(truth)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the class
    wanted = np.maximum(np.ceil(counts * share), np.minimum(counts, least))
    return np.sort(order[place < wanted[truth[order]]])


def hold_out(truth: NDArray[np.intp], groups: NDArray[np.intp], *, most: int, seed: int) -> NDArray[np.bool_]:
    """Return which photos are held out once and for all, bool (photos,): one of the folds of `deal`.

    It is the one that is nearest to a like share of each class: large groups make folds uneven. None are held out where
    no class has two groups; of each class some are left to be learnt from.
    """
    fold = deal(truth, groups, most=most, seed=seed)
    folds = int(fold.max(initial=NEVER)) + 1
    if not folds:
        return np.zeros(len(truth), bool)
    counts = np.bincount(truth)
    held = np.stack([np.bincount(truth[fold == each], minlength=len(counts)) for each in range(folds)])
    amiss = np.abs(held / np.maximum(counts, 1) - 1 / folds).sum(axis=1)
    found: NDArray[np.bool_] = fold == int(amiss.argmin())
    return found
