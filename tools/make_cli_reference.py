"""Write docs/cli.md from the command line's own help; `--check` only compares.

python tools/make_cli_reference.py [--check]
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from photolabel import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"


def reference() -> str:
    """Return the page."""
    os.environ["COLUMNS"] = "100"  # argparse wraps to the terminal's width
    parts = ["# The command line", "", "Written by `make docs` from the commands' own help.", ""]
    for verb in cli.VERBS:
        module = importlib.import_module(f"photolabel.cli.{verb}")
        parser = module.parser()
        parts += [f"## photolabel {verb}", "", "```text", parser.format_help().rstrip(), "```", ""]
        for action in parser.children():
            parts += [f"### {action.prog}", "", "```text", action.format_help().rstrip(), "```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    page = reference()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text("utf-8") == page else f"{PAGE.name} is out of date: make docs")
    PAGE.write_text(page, "utf-8")
