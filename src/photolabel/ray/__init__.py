"""For people who have a Ray of their own: a callable class for `map_batches`, and the service for Ray Serve.

>>> import ray.data
>>> from photolabel.ray import Labeler
>>> photos = ray.data.read_binary_files("samples", include_paths=True)
>>> labelled = photos.map_batches(Labeler, batch_size=64, concurrency=2, num_cpus=1)

`photolabel.classify_folder(..., ray=True)` and `photolabel PHOTOS --ray` need nothing of this room.
"""

from __future__ import annotations

from .deploying import deployment
from .labeler import Labeler

__all__ = ["Labeler", "deployment"]
