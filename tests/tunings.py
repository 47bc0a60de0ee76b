"""Run in a process of its own: fine-tuning of the tiny VGG, through Keras. Prints a line for each check that holds.

On the backend that KERAS_BACKEND names, by default JAX.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ["PHOTOLABEL_OFFLINE"] = "1"
os.environ["PHOTOLABEL_CACHE"] = os.environ["KERAS_HOME"] = tempfile.mkdtemp()

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import photolabel
import photolabel.keras
from photolabel import engine, explain, graph, images, metadata, models, taught
from photolabel.errors import BusyError, PhotolabelError, UsageError
from photolabel.graph.head import digest
from photolabel.teaching import Lesson, Step, activations, adding, from_keras, heads, teach
from photolabel.teaching.checkpoint import Checkpoint
from photolabel.teaching.epochs import Epoch, Seen, Trainer, judge

import oracle
from training import COLOURS, photo, plant

FOLDER = Path(tempfile.mkdtemp())
BACKEND = os.environ["KERAS_BACKEND"]
# So much alike that the frozen head mistakes many: there is something to learn.
ALIKE = {"a": (120, 120, 120), "b": (140, 120, 120), "c": (120, 140, 120), "d": (120, 120, 140)}
TINY = FOLDER / "tiny.onnx"
PHOTOS = plant(FOLDER / "photos", 12, ALIKE)
JUDGES = plant(FOLDER / "judges", 6, ALIKE, seed=7)
RATE, EPOCHS = 3e-4, 6


def tuned(out: Path, photos: Path = PHOTOS, **options: Any) -> Lesson:
    given: dict[str, Any] = {"model": TINY, "fine_tune": 1, "learning_rate": RATE, "epochs": EPOCHS, "workers": 0}
    return teach(photos, out, **(given | options))


def stored(path: Path) -> dict[str, np.ndarray]:
    import onnx

    model = onnx.load(path)
    return {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}


def refused(kind: type[PhotolabelError], said: str, out: Path, **options: Any) -> None:
    try:
        tuned(out, **options)
    except kind as error:
        assert said in str(error), error
    else:
        raise AssertionError(f"not refused: {said}")


class StopAt:
    """Stops after an epoch, as Ctrl-C does, and counts the epochs that were told of."""

    def __init__(self, number: int | None = None) -> None:
        self.number, self.told = number, []  # type: ignore[var-annotated]

    def __call__(self, epoch: Epoch) -> None:
        self.told.append(epoch.number)
        if epoch.number == self.number:
            raise KeyboardInterrupt


def interrupted(out: Path, number: int, **options: Any) -> str:
    try:
        tuned(out, step=Step(epoch=StopAt(number)), **options)
    except KeyboardInterrupt as stop:
        return str(stop)
    raise AssertionError("it was not stopped")


def alike(one: Path, other: Path) -> None:
    """To the byte where Keras computes the same each time, as it does on JAX; else nearly."""
    if BACKEND == "jax":
        assert one.read_bytes() == other.read_bytes()
    first, second = stored(one), stored(other)
    assert list(first) == list(second)
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, rtol=1e-3, atol=1e-5)


WHOLE = FOLDER / "whole.onnx"
LESSON: list[Lesson] = []


def it_learns_more_than_the_frozen_head_knows() -> None:
    told: list[Epoch] = []
    steps: list[tuple[int, int]] = []
    lesson = tuned(WHOLE, step=Step(epoch=told.append, train=lambda done, of: steps.append((done, of))))
    LESSON.append(lesson)
    found = lesson.tuned
    assert found is not None and found.epochs == tuple(told) and [each.number for each in told] == [*range(EPOCHS + 1)]
    assert found.best > 0 and told[found.best].held_loss < told[0].held_loss * 0.97
    assert [each.best for each in told][found.best :] == [True] + [False] * (EPOCHS - found.best)
    learnt = int((~found.held).sum())
    assert steps[-1] == (learnt, learnt) and len(steps) == EPOCHS * -(-learnt // 16)
    assert not WHOLE.with_name("whole.onnx.partial").exists()


def it_is_judged_by_held_out_photos() -> None:
    (lesson,) = LESSON
    found, judged = lesson.tuned, lesson.validation
    assert found is not None and judged is not None
    assert found.held.shape == (48,) and 4 <= found.held.sum() <= 16
    assert judged.photos.names == tuple(np.array(lesson.photos.names)[found.held])
    assert judged.figures.accuracy.value == found.epochs[found.best].held_accuracy
    assert lesson.figures.accuracy.of == 0 and lesson.figures.unjudged == 48
    assert lesson.fitted.folds and lesson.fitted.head.kind == "logistic"
    # Another pass, through the file itself: what Keras said of them is what the network says.
    with photolabel.load(WHOLE) as made:
        for name, expected in zip(judged.photos.names, judged.probabilities, strict=True):
            said = {label.name: label.probability for label in made.classify(name, top=None).labels}
            assert np.abs([said[each] - p for each, p in zip("abcd", expected, strict=True)]).max() < 2e-3


def epoch_0_is_the_frozen_head() -> None:
    (lesson,) = LESSON
    assert lesson.tuned is not None
    held = lesson.tuned.held
    features = frozen(lesson.photos.names, "middle")
    views = np.stack([frozen(lesson.photos.names, view) for view in range(10) if view != 4], axis=1)
    rows = np.flatnonzero(~held)
    truth = lesson.photos.truth
    head = heads.fit(
        features[rows], truth[rows], classes=4, strength=lesson.fitted.head.strength, views=views[rows], seed=0
    ).head
    loss, accuracy, _ = judge(head.logits(features[held]), truth[held])
    first = lesson.tuned.epochs[0]
    assert abs(loss - first.held_loss) < 2e-3 and accuracy == first.held_accuracy
    assert first.loss is None and first.accuracy is None and first.best


def frozen(names: tuple[str, ...], view: int | str) -> np.ndarray:
    """What the network's last map is of photos in the mean, by the network's own engine."""
    recipe = models.read(TINY).recipe().plain if view == "middle" else ten_crop()
    pixels = np.stack([images.views(images.read(name), recipe)[0 if view == "middle" else int(view)] for name in names])
    return run(TINY, pixels, "block5_pool")["block5_pool"].mean(axis=(1, 2))


def ten_crop() -> images.Recipe:
    from dataclasses import replace

    return replace(models.read(TINY).recipe(), views="ten-crop")


def run(path: Path, pixels: np.ndarray, *layers: str) -> dict[str, np.ndarray]:
    running = engine.open_engine(path, cut=engine.Cut(layers=layers))
    try:
        return running.run(pixels.astype(np.float32))
    finally:
        running.close()


def what_is_frozen_stays_to_the_bit() -> None:
    before, after = stored(TINY), stored(WHOLE)
    for name, array in before.items():
        if name.startswith(("block1", "block2", "block3", "block4")):
            np.testing.assert_array_equal(after[name], array)
        if name.startswith("block5"):
            assert after[name].shape == array.shape and (after[name] != array).any()
    assert not [name for name in after if name.startswith(("fc", "predictions"))]


def two_blocks_are_tuned() -> None:
    lesson = tuned(FOLDER / "two.onnx", fine_tune=2)
    assert lesson.tuned is not None and lesson.tuned.best and lesson.tuned.blocks == 2
    before, after = stored(TINY), stored(FOLDER / "two.onnx")
    for name, array in before.items():
        if name.startswith("block"):
            assert (after[name] == array).all() == (name[5] in "123"), name


def the_file_says_what_keras_says() -> None:
    names = [str(path) for path in sorted(JUDGES.rglob("*.png"))]
    recipe = models.read(WHOLE).recipe()
    pixels = np.stack([images.views(images.read(name), recipe)[0] for name in names])
    found = run(WHOLE, pixels, "block4_pool", "logits")
    arrays = stored(WHOLE)
    pairs = {
        name.removesuffix("/kernel"): (array.transpose(2, 3, 1, 0), arrays[name.replace("kernel", "bias")])
        for name, array in arrays.items()
        if name.startswith("block") and name.endswith("/kernel")
    }
    model = photolabel.keras.tail(oracle.TINY, pairs, 1, (2, 2, 8), (arrays["head/kernel"], arrays["head/bias"]))
    logits = np.asarray(model.predict_on_batch(found["block4_pool"]))
    assert np.abs(heads.softmax(logits) - found["probabilities"]).max() < 1e-5


def it_describes_itself() -> None:
    how = taught.read(WHOLE)
    assert how is not None and how.kind == taught.TUNED and how.counts == (12,) * 4 and how.floor is not None
    assert how.origin.name == "tiny, fine-tuned" and how.origin.layer == "block5_pool"
    (lesson,) = LESSON
    assert lesson.tuned is not None
    told = how.report["fine_tuning"]
    assert told["best"] == lesson.tuned.best and told["blocks"] == 1 and told["epochs"] == EPOCHS
    assert how.report["cross_validation"] is None and how.report["validation"]["accuracy"][1] == lesson.tuned.held.sum()
    assert digest(TINY, "block5_pool") in models.read(WHOLE).source
    assert "photolabel.spec" not in metadata.read(WHOLE)


def everything_takes_it() -> None:
    one = PHOTOS / "a" / "000.png"
    with photolabel.load(WHOLE, precision="int8") as made:
        assert made.precision == "int8" and len(made.classify(one, top=None).labels) == 4
    with photolabel.load(WHOLE) as made:
        found = explain.explain(made, one)
        assert found.method == "activation"
        strange = photo(FOLDER / "strange.png", (250, 250, 20), 99)
        assert str(made.classify(strange, sure=0.1).answer) == "unsure (none of its classes)"
    again = teach(plant(FOLDER / "again", 3), FOLDER / "again.onnx", model=WHOLE, layer="features", workers=0)
    assert again.tuned is None and len(again.labels) == 3


def it_is_not_added_to() -> None:
    for options in ({"fine_tune": None, "learning_rate": None, "epochs": None, "add": WHOLE}, {"add": WHOLE}):
        refused(UsageError, "each anew, with all photos", WHOLE, **options)
    try:
        adding.earlier(WHOLE)
    except UsageError as error:
        assert "fine-tuned" in str(error)
    else:
        raise AssertionError


def the_same_gives_the_same() -> None:
    out = FOLDER / "other" / "whole.onnx"
    out.parent.mkdir()
    tuned(out)
    alike(WHOLE, out)
    tuned(out, seed=1)
    assert out.read_bytes() != WHOLE.read_bytes()


def resumed_is_unbroken() -> None:
    out = FOLDER / "resumed" / "whole.onnx"
    out.parent.mkdir()
    for number in (0, 2, EPOCHS):
        told = interrupted(out, number, resume=number > 0)
        assert f"epoch {number} of {EPOCHS}" in told and "whole.onnx.partial" in told and "resume=True" in told
        assert out.with_name("whole.onnx.partial").exists() and not out.exists()
    seen = StopAt()
    lesson = tuned(out, resume=True, step=Step(epoch=seen))
    assert seen.told == [*range(EPOCHS + 1)]
    assert lesson.tuned is not None and lesson.tuned.resumed == EPOCHS
    assert [*out.parent.iterdir()] == [out]
    alike(WHOLE, out)
    assert tuned(FOLDER / "resumed" / "new.onnx", resume=True).tuned.resumed is None  # type: ignore[union-attr]


def another_training_is_refused() -> None:
    out = FOLDER / "pinned.onnx"
    interrupted(out, 1)
    partial = out.with_name("pinned.onnx.partial")
    before = partial.read_bytes()
    refused(UsageError, "a training that was stopped", out, photos=FOLDER / "nowhere")  # before any photo is opened
    refused(UsageError, "other photos", out, resume=True, photos=JUDGES)
    refused(UsageError, "others to judge by", out, resume=True, validation=JUDGES)
    refused(UsageError, "learning rate 0.0003, not 0.1", out, resume=True, learning_rate=0.1)
    refused(UsageError, f"epochs {EPOCHS}, not 7", out, resume=True, epochs=7)
    refused(UsageError, "seed 0, not 5", out, resume=True, seed=5)
    refused(UsageError, "other views", out, resume=True, views="mirror")
    refused(UsageError, "blocks 1, not 2", out, resume=True, fine_tune=2)
    other = FOLDER / "other.onnx"
    other.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=3)))
    refused(UsageError, "another network", out, resume=True, model=other)
    assert partial.read_bytes() == before
    partial.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    refused(UsageError, "is damaged", out, resume=True)
    partial.write_bytes(b"{}\n")
    refused(UsageError, "no checkpoint", out, resume=True)
    assert partial.exists() and not out.exists()


def one_process_at_a_time() -> None:
    from concurrent.futures import ThreadPoolExecutor

    out = FOLDER / "busy.onnx"

    def second() -> None:
        refused(BusyError, "another photolabel", out, resume=True)

    def meanwhile(epoch: Epoch) -> None:
        if epoch.number == 1:
            with ThreadPoolExecutor(1) as other:
                other.submit(second).result()

    tuned(out, epochs=1, step=Step(epoch=meanwhile))


def photos_to_judge_by_are_given() -> None:
    out = FOLDER / "given.onnx"
    lesson = tuned(out, validation=JUDGES)
    assert lesson.tuned is not None and not lesson.tuned.held.any()
    assert lesson.validation is not None and len(lesson.validation.photos) == 24
    once = tuned(FOLDER / "once.onnx", validation=JUDGES, views="one")  # one file of maps for both
    assert once.validation is not None and len(once.validation.photos) == 24
    if lesson.tuned.best:
        assert lesson.figures.accuracy.of == 0
        assert lesson.validation.figures.accuracy.value == lesson.tuned.epochs[lesson.tuned.best].held_accuracy


def what_is_no_better_leaves_the_frozen_head() -> None:
    out, plain = FOLDER / "same" / "x.onnx", FOLDER / "plain" / "x.onnx"
    for path in (out, plain):
        path.parent.mkdir()
    lesson = tuned(out, learning_rate=1e-12)
    assert lesson.tuned is not None and lesson.tuned.best == 0
    assert len(lesson.tuned.epochs) == 6  # patience
    assert lesson.validation is None and lesson.figures.accuracy.of == 48
    again = teach(PHOTOS, plain, model=TINY, layer="block5_pool", views="ten-crop", workers=0)
    assert again.tuned is None
    np.testing.assert_allclose(stored(out)["head/kernel"], stored(plain)["head/kernel"], rtol=1e-3, atol=1e-4)
    assert any("frozen head, on the network as it was" in remark for remark in lesson.remarks)
    assert "fine_tuning" not in taught.read(out).report  # type: ignore[union-attr]
    adding.earlier(out)
    assert not out.with_name("x.onnx.partial").exists()


def one_that_runs_away_is_stopped() -> None:
    lesson = tuned(FOLDER / "away.onnx", learning_rate=1e30)
    assert lesson.tuned is not None and lesson.tuned.best == 0 and len(lesson.tuned.epochs) < 3
    assert any("a lower learning rate may help" in remark for remark in lesson.remarks)


def the_loss_falls_from_nothing() -> None:
    from photolabel.teaching import backbone

    found = backbone.find(TINY, layer="block5_pool", views="mirror")
    top = plant(FOLDER / "c", 8)
    pixels = {
        name: [images.views(images.read(path), found.recipe) for path in (top / name).iterdir()] for name in COLOURS
    }
    with activations.Activations(found, "block4_pool", (2, 2, 8)) as maps:
        digests, truth = [], []
        for place, views in enumerate(pixels.values()):
            for number, each in enumerate(views):
                digests.append(bytes([place, number]) + bytes(30))
                truth.append(place)
                maps.put(digests[-1], run(TINY, np.stack(each), "block4_pool")["block4_pool"])
        seen = Seen(digests=tuple(digests), truth=np.array(truth), maps=maps, middle=0)
        nothing = np.zeros((8, 3), np.float32), np.zeros(3, np.float32)
        model = photolabel.keras.tail(oracle.TINY, graph.arrays(TINY, oracle.TINY), 1, (2, 2, 8), nothing)
        trainer = Trainer(model, learning_rate=1e-3)
        losses = [trainer.train(seen, number, seed=0)[0] for number in range(1, 9)]
        assert abs(judge(np.zeros((24, 3), np.float32), seen.truth)[0] - np.log(3)) < 1e-6
        assert losses[-1] < 0.5 * losses[0], losses
        assert judge(trainer.look(seen)[1], seen.truth)[1] > 0.9


def rare_classes_count_as_much() -> None:
    """Of a class with a quarter of the photos each counts four times."""
    from photolabel.teaching.heads import even

    truth = np.array([0] * 8 + [1] * 2)
    np.testing.assert_allclose(even(truth), [1 / 16] * 8 + [1 / 4] * 2)
    weights = []

    class Model:
        def __getattr__(self, name: str) -> Any:
            return lambda *_, **options: weights.append(options["sample_weight"]) or {"loss": 0.0, "accuracy": 0.0}

    class Maps:
        shape = (1, 2, 2, 8)

        def take(self, digests: Any, views: Any) -> np.ndarray:
            return np.zeros((len(digests), 2, 2, 8), np.float32)

    trainer = Trainer.__new__(Trainer)
    trainer.model = Model()
    trainer.model.reset_metrics = lambda: None
    trainer.train(Seen(digests=(b"",) * 10, truth=truth, maps=Maps(), middle=0), 1, seed=0)  # type: ignore[arg-type]
    assert sorted(np.concatenate(weights).round(4).tolist()) == [0.0625] * 8 + [0.25] * 2


def by_hand(*, nested: bool = False, **options: Any) -> Any:
    """VGG16 of small pictures with a head, as somebody builds it in Keras."""
    import keras

    given: dict[str, Any] = {"include_top": False, "weights": None, "input_shape": (32, 32, 3), "pooling": "avg"}
    base = photolabel.keras.VGG16(**(given | options))
    dense = keras.layers.Dense(3, activation="softmax", name="mine", bias_initializer="random_normal")
    return keras.Sequential([base, dense]) if nested else keras.Model(base.input, dense(base.output))


def what_was_trained_by_hand_is_brought_back() -> None:
    from photolabel.keras_compat import preprocess_input

    for nested in (False, True):
        model, out = by_hand(nested=nested), FOLDER / "hand.onnx"
        made = from_keras(model, out, classes=["x", "y", "../z"])
        assert [label.name for label in made.labels] == ["x", "y", "../z"] and made.licence.startswith("unknown")
        recipe = made.recipe()
        assert (recipe.size, recipe.side, recipe.fit) == (32, 37, "resize-crop")
        names = sorted(JUDGES.rglob("*.png"))[:5]
        pixels = np.stack([images.prepare(images.read(name), recipe) for name in names])
        said = np.asarray(model.predict_on_batch(preprocess_input(pixels)))
        np.testing.assert_allclose(run(out, pixels, "logits")["probabilities"], said, atol=1e-5)
        how = taught.read(out)
        assert how is not None and how.counts == (0, 0, 0) and how.floor is None
    squash = models.known()["vgg16"].recipe("keras")
    assert from_keras(by_hand(input_shape=(224, 224, 3)), out, classes="abc", recipe=squash).recipe() == squash
    assert from_keras(by_hand(input_shape=None), out, classes="abc").recipe() == models.known()["vgg16"].recipe()
    with photolabel.load(out) as made:
        assert made.classify(names[0]).top.name in "abc"


def what_was_built_otherwise_is_refused() -> None:
    import keras

    out = FOLDER / "refused.onnx"
    base = photolabel.keras.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    larger = photolabel.keras.VGG16(include_top=False, weights=None, input_shape=(64, 64, 3))
    flat = keras.layers.Flatten()(larger.output)
    average = keras.layers.GlobalAveragePooling2D()(base.output)
    several = keras.layers.Dense(3, activation="softmax")(keras.layers.Dense(512)(average))
    rescaled = keras.Input((32, 32, 3))
    for said, model, classes in (
        ("expected the names of the 3 classes", by_hand(), ["a", "b"]),
        ("all different", by_hand(), ["a", "b", "b"]),
        ("expected the names of the 3 classes", by_hand(), ["a", "b", "c", "d"]),
        ("cannot name a class", by_hand(), ["a", "b", "c\nd"]),
        ("one dense layer", keras.Model(base.input, average), ["a", "b"]),
        ("one dense layer", keras.Model(base.input, several), ["a", "b", "c"]),
        ("one dense layer", keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), ["a", "b"]),
        ("does not say what its weights should", by_hand(pooling="max", input_shape=(64, 64, 3)), ["a", "b", "c"]),
        (
            "does not say what its weights should",
            keras.Model(base.input, keras.layers.Dense(3, bias_initializer="random_normal")(average)),
            ["a", "b", "c"],
        ),
        (
            "does not say what its weights should",
            keras.Model(rescaled, by_hand()(keras.layers.Rescaling(0.1)(rescaled))),
            ["a", "b", "c"],
        ),
        ("takes 2048 numbers", keras.Model(larger.input, keras.layers.Dense(2)(flat)), ["a", "b"]),
    ):
        try:
            from_keras(model, out, classes=classes)
        except PhotolabelError as error:
            assert said in str(error), error
        else:
            raise AssertionError(said)
    try:
        from_keras(by_hand(), out, classes="abc", recipe=ten_crop())
    except UsageError as error:
        assert "one view" in str(error)
    else:
        raise AssertionError
    assert not out.exists()


def what_cannot_be_tuned() -> None:
    out = FOLDER / "none.onnx"
    refused(UsageError, "only a VGG can be fine-tuned", out, model="efficientnet-lite2")
    refused(UsageError, "only a VGG can be fine-tuned", out, model=WHOLE, layer="features")
    for blocks in (0, -1, True, 1.5):
        refused(UsageError, "blocks=", out, fine_tune=blocks)
    refused(UsageError, "expected 1 to 4", out, fine_tune=5)
    refused(UsageError, "Leave the layer out", out, layer="fc2")
    refused(UsageError, "precision int8", out, precision="int8")
    refused(UsageError, "ends in a softmax", out, head="svm")
    for rate in (0, -1, float("nan"), float("inf"), True):
        refused(UsageError, "learning_rate=", out, learning_rate=rate)
    for epochs in (0, True, 2.5):
        refused(UsageError, "epochs=", out, epochs=epochs)
    for name, value in (("epochs", 3), ("learning_rate", 0.1), ("resume", True)):
        options = {"fine_tune": None, "epochs": None, "learning_rate": None, name: value}
        refused(UsageError, f"{name}: goes with fine_tune", out, **options)
    single = plant(FOLDER / "single", 1, ALIKE)
    refused(UsageError, "photos to judge by", out, photos=single)
    assert not out.exists() and not Checkpoint(out=out, settings={}).path.exists()


def nothing_is_left_behind() -> None:
    kept = Path(os.environ["PHOTOLABEL_CACHE"], "activations")
    assert {path.suffix for path in kept.iterdir()} == {".maps", ".lock"}


for check in (
    it_learns_more_than_the_frozen_head_knows,
    it_is_judged_by_held_out_photos,
    epoch_0_is_the_frozen_head,
    what_is_frozen_stays_to_the_bit,
    the_file_says_what_keras_says,
    it_describes_itself,
    everything_takes_it,
    it_is_not_added_to,
    the_same_gives_the_same,
    resumed_is_unbroken,
    another_training_is_refused,
    one_process_at_a_time,
    photos_to_judge_by_are_given,
    two_blocks_are_tuned,
    what_is_no_better_leaves_the_frozen_head,
    one_that_runs_away_is_stopped,
    the_loss_falls_from_nothing,
    rare_classes_count_as_much,
    what_cannot_be_tuned,
    what_was_trained_by_hand_is_brought_back,
    what_was_built_otherwise_is_refused,
    nothing_is_left_behind,
):
    if not TINY.exists():
        TINY.write_bytes(oracle.tiny_onnx())
    check()
    print("ok:", check.__name__.replace("_", " "), flush=True)
