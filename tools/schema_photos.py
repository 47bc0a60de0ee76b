"""What stands for a photo in the cases of `schema_cases.py`; loaded by schemathesis, in its own environment.

Random bytes alone would never be a photo, and no answers but refusals would be looked at.
"""

from __future__ import annotations

import os
from pathlib import Path

import schemathesis
from hypothesis import strategies

_PHOTOS = [path.read_bytes() for path in sorted(Path(os.environ["SCHEMA_PHOTOS"]).iterdir())]
_BYTES = strategies.one_of(strategies.sampled_from(_PHOTOS), strategies.binary(min_size=1, max_size=300))

schemathesis.openapi.format("binary", _BYTES)
schemathesis.openapi.media_type("image/*", _BYTES)
