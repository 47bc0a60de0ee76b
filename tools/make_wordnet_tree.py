"""Make src/photolabel/data/wordnet_tree.tsv: ImageNet's 1000 classes and all that stands above them in WordNet 3.0.

usage: python tools/make_wordnet_tree.py [--wordnet FOLDER] [--check]

FOLDER holds WordNet's own data.noun, by default where Debian's package wordnet-base puts them. A line
a node, sorted by id: its id, WordNet's first name, the everyday name, and the ids above it. With --check nothing is
written, and the exit code is 1 where the file is another.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "src" / "photolabel" / "data"
TREE = DATA / "wordnet_tree.tsv"
ABOVE = "@"  # a hypernym; "@i", of an instance, is none of ImageNet's


@dataclass(frozen=True)
class Synset:
    """A line of data.noun: its words, of which the first is WordNet's own name, and what stands above it."""

    words: tuple[str, ...]
    above: tuple[str, ...]


def synset(line: str) -> tuple[str, Synset]:
    """Read a line as wndb(5WN) has it: offset, file, type, count of words, words, count of pointers, pointers."""
    fields = line.partition(" | ")[0].split()
    count = int(fields[3], 16)
    words = tuple(fields[4 : 4 + 2 * count : 2])
    pointers = fields[5 + 2 * count :]
    above = tuple(
        f"n{pointers[at + 1]}" for at in range(0, len(pointers), 4) if pointers[at] == ABOVE and pointers[at + 2] == "n"
    )
    return f"n{fields[0]}", Synset(words, above)


# What people say today, or say at all, where WordNet's first name is another. By that name, which is unique for these.
EVERYDAY = {
    "cock": "rooster", "water_ouzel": "dipper", "hog": "pig",
    "ashcan": "trash can", "bannister": "banister", "beach_wagon": "station wagon", "cab": "taxi",
    "cash_machine": "ATM", "cellular_telephone": "mobile phone",
    "confectionery": "candy store",
    "French_loaf": "baguette", "hand_blower": "hair dryer",
    "hand-held_computer": "handheld computer", "loudspeaker": "speaker",
    "jean": "jeans", "jersey": "T-shirt", "loupe": "magnifying glass",
    "motor_scooter": "scooter", "mailbag": "mail bag",
    "passenger_car": "railway car", "patio": "terrace", "photocopier": "copier", "pick": "guitar pick",
    "pickelhaube": "spiked helmet", "pop_bottle": "soda bottle",
    "running_shoe": "sneaker",
    "streetcar": "tram", "switch": "light switch",
    "toyshop": "toy shop",
    "trailer_truck": "articulated truck", "vacuum": "vacuum cleaner",
    "worm_fence": "split-rail fence", "web_site": "website", "carbonara": "spaghetti carbonara",
    "corn": "maize", "ear": "corn cob", "seashore": "coast",
    "bolete": "bolete mushroom",
    "coho": "coho salmon", "hip": "rose hip", "rapeseed": "rape field", "anemone_fish": "clownfish",
    "puffer": "pufferfish", "African_grey": "grey parrot",
    "killer_whale": "orca", "Pekinese": "Pekingese", "cougar": "puma", "gar": "garfish",
    "cuirass": "breastplate armour", "barrow": "wheelbarrow", "bobsled": "bobsleigh",
    "half_track": "half-track", "grocery_store": "grocery",
    "horizontal_bar": "high bar", "entertainment_center": "TV cabinet",
    "home_theater": "home cinema", "Crock_Pot": "slow cooker",
    "diaper": "nappy",
    "academic_gown": "graduation gown", "mortarboard": "graduation cap", "maraca": "maracas",
}  # fmt: skip


def tree(folder: Path) -> str:
    """Return the file's text."""
    lines = (folder / "data.noun").read_text("utf-8").splitlines()
    synsets = dict(synset(line) for line in lines if re.match(r"\d{8} ", line))
    classes = dict(line.split("\t") for line in (DATA / "imagenet_classes.tsv").read_text("utf-8").splitlines())
    wanted: dict[str, None] = {}
    waiting = list(classes)
    while waiting:
        node = waiting.pop()
        if node not in wanted:
            wanted[node] = None
            waiting += synsets[node].above
    names = {node: classes.get(node, synsets[node].words[0]) for node in wanted}
    plain = {node: name.replace("_", " ") for node, name in names.items()}
    told = plain | {node: EVERYDAY.get(name, plain[node]) for node, name in classes.items()}
    twice = {name for name, count in Counter(told[node] for node in classes).items() if count > 1}
    for node in classes:  # the two cranes, the two maillots
        if told[node] in twice:
            told[node] = f"{plain[node]} ({plain[synsets[node].above[0]]})"
    rows = (f"{node}\t{names[node]}\t{told[node]}\t{' '.join(synsets[node].above)}" for node in sorted(wanted))
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="FOLDER")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = tree(args.wordnet)
    if args.check:
        sys.exit(0 if TREE.read_text("utf-8") == text else f"{TREE.name} is another than WordNet gives")
    TREE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
