"""Fine-tuning: the last blocks of a VGG, trained together with the head, from where the frozen head stands.

What lies below those blocks is computed once, by the engine, and kept on the disk; the blocks are trained by Keras; and
what comes of it is a network in ONNX again. Photos that are held out say after each epoch how good it is, and when to
stop. If no epoch is better than the frozen head, that is what is kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import graph, keras
from ..batch.journal import hold
from ..errors import TruthError, UsageError
from ..images import DEFAULT_LIMITS, Limits
from . import activations, folds, heads, tuned
from .activations import Activations
from .checkpoint import Checkpoint, State, check
from .epochs import Epoch, Seen, Trainer, is_better, is_over, judge
from .features import compute
from .solving import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..batch import Decoders, Timing
    from ..errors import PhotoError
    from ..spec import Spec
    from .backbone import Backbone
    from .examples import Example
    from .features import Features
    from .heads import Fitted
    from .tuned import Network

EPOCHS = 30
LEARNING_RATE = 1e-4
_HELD = 5  # of so many photos one is held out where none are given to judge by
_LARGE = 1 << 30  # bytes of maps that their owner is told of


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for: how many of the last `blocks` are trained, for how many `epochs` at most, how fast.

    `resume` goes on with a training to the same file that was stopped. Raises UsageError for what makes no sense.
    """

    blocks: int = 1
    epochs: int = EPOCHS
    learning_rate: float = LEARNING_RATE
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("blocks", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{name}={value!r}: expected a whole number from 1.")
        rate = self.learning_rate
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < float("inf"):
            raise UsageError(f"learning_rate={rate!r}: expected a number above 0, such as {LEARNING_RATE}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """What came of fine-tuning the last `blocks`.

    `epochs` are all that were trained, the first being the frozen head; `best` is the number of the one that was kept,
    0 where that is the frozen head itself, because none had a lower loss. `held` says which of the photos were held out
    to judge by, bool (photos,): none of them where photos were given for that. `resumed` is the epoch after which an
    earlier start was gone on with, None without. What was kept was chosen by the very photos that judge it, so a little
    of how good it looks is luck. `remarks` are sentences on what was amiss.
    """

    blocks: int
    learning_rate: float
    epochs: tuple[Epoch, ...]
    best: int
    held: NDArray[np.bool_]
    resumed: int | None = None
    remarks: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """Return what the network's file says of it, in plain values: nothing where the frozen head was kept."""
        if not self.best:
            return {}
        losses = [self.epochs[0].held_loss, self.epochs[self.best].held_loss]
        return {
            "fine_tuning": {
                "blocks": self.blocks,
                "learning_rate": self.learning_rate,
                "epochs": len(self.epochs) - 1,
                "best": self.best,
                "held_out": int(self.held.sum()),
                "losses": losses,
            }
        }


class Known(Protocol):
    """Photos of known classes: their SHA-256 and their classes' indices, (photos,)."""

    @property
    def digests(self) -> tuple[bytes, ...]: ...  # noqa: D102
    @property
    def truth(self) -> NDArray[np.intp]: ...  # noqa: D102


def base(backbone: Backbone, *, layer: str | None, blocks: int) -> Backbone:
    """Return what of a backbone can be tuned: its convolutions, and the average of their last map as features.

    `layer` is what was asked for, None for what is usual. Raises UsageError for a network that is no VGG of plain
    float32 weights, for a layer that is not the last map, for blocks that it does not have, and for a backend of Keras'
    that cannot train; `MissingExtraError` without Keras.
    """
    spec, model = backbone.model.spec, backbone.model
    if spec is None or model.normalisation is None:
        raise UsageError(
            f"{model.name}: only a VGG can be fine-tuned. Choose one, as in model='vgg16' (--model vgg16), or give its "
            "convolutions, weights=FILE (--weights FILE)."
        )
    if backbone.precision != "fp32":
        raise UsageError(f"precision {backbone.precision}: what is fine-tuned is fp32; its file runs at any precision.")
    last = f"block{len(spec.blocks)}_pool"
    if layer not in (None, last):
        raise UsageError(f"layer {layer}: fine-tuning learns from the average of {last}. Leave the layer out.")
    if not 1 <= blocks < len(spec.blocks):
        raise UsageError(
            f"fine_tune={blocks!r}: expected 1 to {len(spec.blocks) - 1}, how many of the last blocks of {model.name} "
            "are trained."
        )
    backend = keras.imported().backend.backend()
    if backend not in keras.BACKENDS:
        able = ", ".join(keras.BACKENDS)
        raise UsageError(f"Keras cannot train on {backend}: set KERAS_BACKEND to one of {able}.")
    return replace(backbone, layer=last)


class Tuner:
    """Everything that fine-tuning needs from the first photo to the last. Use it in a `with` block.

    Where that is left by a KeyboardInterrupt, its message says how to go on.

    `backbone` is what `base` returned. Raises UsageError where a training to the same file `out` was stopped and is not
    to be gone on with, and `BusyError` where another process is at work on it.
    """

    def __init__(self, options: Options, backbone: Backbone, out: Path, *, seed: int) -> None:
        assert backbone.model.spec is not None
        self._options, self._backbone, self._out, self._seed = options, backbone, out, seed
        self._spec: Spec = backbone.model.spec
        kept = len(self._spec.blocks) - options.blocks
        self._layer = f"block{kept}_pool"
        side = backbone.recipe.size >> kept
        self._shape = (side, side, self._spec.blocks[kept - 1][-1][1])
        self._learnt: Activations | None = None
        self._held: Activations | None = None
        self._checkpoint: Checkpoint | None = None
        self._done: Epoch | None = None  # the last that is kept
        check(out, resume=options.resume)
        with ExitStack() as stack:
            hold(out, stack)
            self._stack = stack.pop_all()

    def look(
        self,
        learnt: tuple[Iterable[Example], int],
        held: tuple[Iterable[Example], int],
        decoders: Decoders,
        *,
        limits: Limits = DEFAULT_LIMITS,
        step: Callable[[str, PhotoError | None], None] | None = None,
        timing: Timing | None = None,
    ) -> tuple[Features, Features]:
        """Return the features of all photos, those to learn from and those to judge by, each with how many there are.

        The maps below the blocks that are trained are computed along with them. Photos to judge by are looked at once,
        whatever the recipe's views. Raises what `features.compute` and `Activations` raise.
        """
        made = []
        with activations.Opened(self._backbone, self._layer) as opened:
            for running, (examples, most) in ((opened, learnt), (opened.plain(), held)):
                maps = self._stack.enter_context(Activations(running.backbone, self._layer, self._shape))
                maps.check_room(most)
                found = compute(
                    examples, running, decoders, most=most, limits=limits, beside=maps, step=step, timing=timing
                )
                maps.filled()
                made.append((found, maps))
        (first, self._learnt), (second, self._held) = made
        return first, second

    def tune(
        self,
        photos: Known,
        given: Known,
        fitted: Fitted,
        features: NDArray[np.float32],
        views: NDArray[np.float32] | None,
        groups: NDArray[np.intp],
        *,
        labels: tuple[str, ...],
        epoch: Callable[[Epoch], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Tuned, Network | None]:
        """Train, and return what came of it: the tuned network too, where it is better than the frozen head.

        `photos` are learnt from and `given` is judged by; without these, some of the first are held out. `fitted` is
        the frozen head on all `photos`, `features`, `views` and `groups` are what it was fitted to (`heads.fit`).
        `epoch` is called after each epoch, `progress` within it, with how many photos are done and how many there are.
        The network's file is there until the block ends.

        Raises TruthError where no photo can be held out, UsageError where a checkpoint is not of this training, and
        `OutputError` where none can be written.
        """
        assert self._learnt is not None and self._held is not None
        middle = self._backbone.recipe.middle
        out = np.zeros(len(photos.truth), bool)
        if len(given.truth):
            learnt = Seen(digests=photos.digests, truth=photos.truth, maps=self._learnt, middle=middle)
            held = Seen(digests=given.digests, truth=given.truth, maps=self._held, middle=0)
            head = fitted.head
        else:
            out = folds.hold_out(photos.truth, groups, most=_HELD, seed=self._seed)
            if not out.any():
                raise TruthError(
                    "fine-tuning takes photos to judge by, and no class has two that differ: give some for validation, "
                    "or more of each class."
                )
            learnt, held = (self._some(photos, rows, middle) for rows in (~out, out))
            with one_thread():
                head = heads.fit(
                    features[~out],
                    photos.truth[~out],
                    classes=len(labels),
                    strength=fitted.head.strength,
                    groups=groups[~out],
                    views=None if views is None else views[~out],
                    seed=self._seed,
                ).head
        arrays = graph.arrays(self._backbone.network.path, replace(self._spec, top=False))
        model = keras.tail(self._spec, arrays, self._options.blocks, self._shape, (head.weights, head.bias))
        trainer = Trainer(model, learning_rate=self._options.learning_rate)
        self._checkpoint = Checkpoint(out=self._out, settings=self._settings(learnt, held, labels, trainer))
        state, resumed, remarks = self._train(trainer, learnt, held, epoch, progress)
        best = max(each.number for each in state.history if each.best)
        if not best:
            remarks.append(
                f"fine-tuning: none of {len(state.history) - 1} epochs was better than the frozen head by the photos "
                "held out, so the frozen head, on the network as it was, is what is kept."
            )
        told = Tuned(
            blocks=self._options.blocks,
            learning_rate=self._options.learning_rate,
            epochs=state.history,
            best=best,
            held=out,
            resumed=resumed,
            remarks=(*remarks, *self._large()),
        )
        if not best:
            return told, None
        trainer.weights = dict(state.best)
        name = hashlib.sha256(os.fsencode(os.path.realpath(self._out))).hexdigest()[:32]
        return told, tuned.network(
            trainer,
            arrays,
            learnt,
            held,
            base=self._backbone,
            below=self._layer,
            blocks=self._options.blocks,
            began=head,
            classes=len(labels),
            name=name,
            stack=self._stack,
        )

    def done(self) -> None:
        """Remove the checkpoint: what was to be written is written."""
        self._done = None
        if self._checkpoint is not None:
            self._checkpoint.remove()

    def close(self) -> None:
        """Let go of everything but the checkpoint."""
        self._stack.close()

    def __enter__(self) -> Tuner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, KeyboardInterrupt) and self._done is not None and self._checkpoint is not None:
            raise type(error)(
                f"stopped after epoch {self._done.number} of {self._done.most}; what is trained is kept in "
                f"{self._checkpoint.path}. To go on: the same again, with --resume (resume=True)"
            ) from None

    # -- its steps

    def _some(self, photos: Known, rows: NDArray[np.bool_], middle: int) -> Seen:
        assert self._learnt is not None
        chosen = np.flatnonzero(rows).tolist()
        digests = tuple(photos.digests[i] for i in chosen)
        return Seen(digests=digests, truth=photos.truth[rows], maps=self._learnt, middle=middle)

    def _settings(self, learnt: Seen, held: Seen, labels: tuple[str, ...], trainer: Trainer) -> dict[str, Any]:
        """What a training depends on, so that one that was stopped can be told from another."""
        hashed = hashlib.sha256("\0".join(labels).encode("utf-8", "surrogatepass"))
        for each in (learnt, held):
            hashed.update(b"".join(each.digests) + each.truth.astype("<u4").tobytes() + b"|")
        origin = self._backbone.origin
        return {
            "network": origin.network,
            "recipe": origin.recipe.to_dict(),
            "blocks": self._options.blocks,
            "epochs": self._options.epochs,
            "learning_rate": self._options.learning_rate,
            "seed": self._seed,
            "keras_backend": trainer.backend,
            "photos": hashed.hexdigest(),
        }

    def _train(
        self,
        trainer: Trainer,
        learnt: Seen,
        held: Seen,
        epoch: Callable[[Epoch], None] | None,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[State, int | None, list[str]]:
        assert self._checkpoint is not None
        most, remarks = self._options.epochs, []
        loss, accuracy, _ = judge(trainer.look(held)[1], held.truth)
        first = Epoch(number=0, most=most, loss=None, accuracy=None, held_loss=loss, held_accuracy=accuracy, best=True)
        state = State(history=(first,), now=trainer.weights, best=trainer.weights, momentum=trainer.momentum)
        found = self._checkpoint.read(state) if self._options.resume else None
        resumed = None
        if found is None:
            self._checkpoint.write(state)
        else:
            state, resumed = found, len(found.history) - 1
            trainer.weights, trainer.momentum = dict(state.now), dict(state.momentum)
        self._done = state.history[-1]
        if epoch is not None:
            for each in state.history:
                epoch(each)
        while not is_over(state.history):
            number = len(state.history)
            loss, accuracy = trainer.train(learnt, number, seed=self._seed, step=progress)
            logits = trainer.look(held)[1]
            if not (np.isfinite(loss) and np.isfinite(logits).all()):
                remarks.append(
                    f"epoch {number} led to numbers without bounds, so no more were trained: a lower learning rate may "
                    "help."
                )
                break
            state = self._after(trainer, state, loss, accuracy, judge(logits, held.truth)[:2])
            self._checkpoint.write(state)
            self._done = state.history[-1]
            if epoch is not None:
                epoch(state.history[-1])
        return state, resumed, remarks

    def _after(
        self, trainer: Trainer, state: State, loss: float, accuracy: float, judged: tuple[float, float]
    ) -> State:
        least = min(each.held_loss for each in state.history if each.best)
        now, better = trainer.weights, is_better(judged[0], least)
        made = Epoch(
            number=len(state.history),
            most=self._options.epochs,
            loss=loss,
            accuracy=accuracy,
            held_loss=judged[0],
            held_accuracy=judged[1],
            best=better,
        )
        best = now if better else state.best
        return State(history=(*state.history, made), now=now, best=best, momentum=trainer.momentum)

    def _large(self) -> list[str]:
        assert self._learnt is not None and self._held is not None
        size = self._learnt.size + (self._held.size if self._held.path != self._learnt.path else 0)
        if size < _LARGE:
            return []
        told = f"what was computed of these photos, {size / 1e9:.1f} GB, is kept for the next time"
        return [f"{told}: photolabel models clean --all removes it."]
