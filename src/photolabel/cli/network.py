"""The model that the command line asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .. import loading, models
from ..errors import UsageError

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..images import Limits


def loaded(args: argparse.Namespace, limits: Limits) -> Classifier:
    """Return the classifier that the command line asks for, of which a photo may have so much."""
    try:
        return loading.load(
            args.model,
            weights=args.weights,
            labels=args.labels,
            recipe=args.recipe,
            views=args.views,
            scales=args.scales or (),
            precision=args.precision or "fp32",
            threads=args.threads,
            engine=args.engine or "openvino",
            limits=limits,
            calibrated=not args.uncalibrated,
        )
    except UsageError as error:
        owners = [x for x in models.known() if any(y.name == args.recipe for y in models.resolve(x).recipes)]
        if "has no recipe" not in str(error) or not owners:
            raise
        raise UsageError(f"{error} That one is of {', '.join(owners)}: add --model {owners[0]}") from error
