"""The function: every form of photo, every number at hand, threads, pickling, closing."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import engine, errors, graph, images, models
from photolabel.classifier import Classifier, Prediction

import oracle
from conftest import ROOT


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTOLABEL_CACHE", str(tiny.parent / "cache"))
        return photolabel.load(tiny)


def test_the_answer_is_the_oracles(classifier: Classifier, photo: Path) -> None:
    pixels = images.prepare(images.read(photo), oracle.TINY_RECIPE)
    expected = oracle.forward(oracle.TINY, oracle.he_normal(oracle.TINY), pixels[None])["predictions"][0]
    found = classifier.classify(photo, top=3)
    np.testing.assert_allclose(found.probabilities, expected, atol=2e-5)
    assert [label.index for label in found.labels] == list(np.argsort(-expected)[:3])
    assert found.top is found.labels[0]
    assert found.top.name == f"class_{found.top.index}" and found.top.wnid == f"n{found.top.index:08d}"
    assert found.top.probability == found.probabilities[found.top.index]
    assert str(found) == f"{found.top.name} ({found.top.probability * 100:.2f}%)"
    assert found.answer is not None and found.answer.name == found.top.name and found.answer.kind == "leaf"
    assert (found.photo, found.model, found.recipe, found.precision) == (str(photo), "tiny", "tiny", "fp32")


def test_every_form_of_a_photo_gives_the_same_answer(classifier: Classifier, photo: Path) -> None:
    data = photo.read_bytes()
    with Image.open(photo) as image:
        image.load()
        array = np.asarray(image.convert("RGB"))
    expected = classifier.classify(photo).probabilities
    for form in (str(photo), data, io.BytesIO(data), image, array):
        found = classifier.classify(form)
        np.testing.assert_array_equal(found.probabilities, expected)
        assert found.photo == (str(photo) if isinstance(form, str) else None)
    with photo.open("rb") as file:
        np.testing.assert_array_equal(classifier.classify(file).probabilities, expected)


def test_features_are_the_oracles(classifier: Classifier, photo: Path) -> None:
    photos = [photo, *range_of_arrays(17)]
    pixels = np.stack([images.prepare(images.read(each), oracle.TINY_RECIPE) for each in photos])
    expected = oracle.forward(oracle.TINY, oracle.he_normal(oracle.TINY), pixels)
    np.testing.assert_allclose(classifier.features(photos), expected["fc2"], rtol=1e-4, atol=1e-2)
    found = classifier.features(iter(photos[:2]), layer="block2_pool")
    np.testing.assert_allclose(found, expected["block2_pool"][:2], rtol=1e-4, atol=1e-2)
    assert classifier.features(photos[:1]).shape == (1, 16), "the default stays the default"
    assert classifier.features([], layer="block2_pool").shape == (0, 8, 8, 8)


def range_of_arrays(n: int) -> list[Any]:
    return list(np.random.default_rng(2).integers(0, 256, (n, 40, 40, 3), dtype=np.uint8))


def test_features_come_in_batches_from_one_network(tiny: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[engine.Cut] = []
    sizes: list[int] = []
    original = engine.open_engine

    def spy(path: Path, **options: Any) -> Any:
        opened.append(options["cut"])
        made = original(path, **options)
        assert (options["threads"], options["precision"], options["runtime"]) == (1, "fp32", "openvino")
        if options["cut"].only:
            run = type(made).run
            monkeypatch.setattr(type(made), "run", lambda self, x: sizes.append(len(x)) or run(self, x))
        return made

    monkeypatch.setattr(engine, "open_engine", spy)
    with photolabel.load(tiny, threads=1) as loaded:
        assert opened == [engine.WHOLE], "opened at the first use"
        loaded.features([photo] * 35)
        loaded.features([photo])
        assert opened[1:] == [engine.Cut(layers=("fc2",), only=True)] and sizes == [16, 16, 3, 1]


def test_a_photo_that_gives_no_features_is_named(classifier: Classifier, photo: Path) -> None:
    with pytest.raises(errors.PhotoNotFoundError, match="no-such.jpg: There is no such file"):
        classifier.features([photo, "no-such.jpg"])
    with pytest.raises(errors.CorruptPhotoError, match="photo 2: "):
        classifier.features([photo, b""])
    with pytest.raises(errors.UsageError, match="several photos"):
        classifier.features(str(photo))
    with pytest.raises(errors.UsageError, match="no layer 'fc3'. Close: fc2"):
        classifier.features([photo], layer="fc3")


def test_a_network_that_does_not_name_its_features(tiny: Path, photo: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(tiny)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name.replace("fc2", "second") for name in names]
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("fc2", "second")
    entries = {each.key: each.value for each in model.metadata_props}
    entries = {key: value for key, value in entries.items() if key not in ("photolabel.spec",)}
    onnx.helper.set_model_props(model, {k: v for k, v in entries.items() if k != "photolabel.normalisation"})
    path = tmp_path / "unnamed.onnx"
    onnx.save(model, path)
    with photolabel.load(path) as loaded:
        with pytest.raises(errors.UsageError, match="fc2 or features.*last ones: .*second, logits, probabilities"):
            loaded.features([photo])
        assert loaded.features([photo], layer="second").shape == (1, 16)


def test_features_end_with_the_classifier(tiny: Path, photo: Path) -> None:
    loaded = photolabel.load(tiny)
    expected = loaded.features([photo])
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again.features([photo]), expected)
    loaded.close()
    with pytest.raises(errors.UsageError, match="closed"):
        loaded.features([photo])
    loaded.close()


def test_the_bundled_model_names_its_features() -> None:
    with photolabel.load(models.BUNDLED) as loaded:
        found = loaded.features([ROOT / "samples" / "coffee.jpg"])
    assert found.ndim == 2 and found.dtype == np.float32 and np.isfinite(found).all()


def test_the_second_engine_gives_the_same_answer(tiny: Path, classifier: Classifier, photo: Path) -> None:
    pytest.importorskip("onnxruntime")
    with photolabel.load(tiny, engine="onnxruntime") as other:
        assert "onnxruntime" in repr(other) and "openvino" in repr(classifier)
        found, expected = other.classify(photo), classifier.classify(photo)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-5)
        np.testing.assert_allclose(other.features([photo]), classifier.features([photo]), rtol=1e-4, atol=1e-2)
        assert "onnxruntime" in repr(pickle.loads(pickle.dumps(other)))
    with pytest.raises(errors.UsageError, match="engine 'keras': expected one of"):
        photolabel.load(tiny, engine="keras")


def test_the_callers_array_is_not_changed(classifier: Classifier) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    before = array.copy()
    classifier.classify(array)
    np.testing.assert_array_equal(array, before)
    array.setflags(write=False)
    classifier.classify(array)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
    ids=["grey", "four channels", "float"],
)
def test_an_array_of_another_kind_is_a_clear_error(classifier: Classifier, array: np.ndarray) -> None:
    with pytest.raises(errors.UsageError, match="uint8"):
        classifier.classify(array)


def test_probabilities_are_all_there_and_read_only(classifier: Classifier, photo: Path) -> None:
    found = classifier.classify(photo, top=1)
    assert found.probabilities.shape == (10,) and found.probabilities.dtype == np.float32
    assert abs(float(found.probabilities.sum()) - 1) < 1e-5
    with pytest.raises(ValueError, match="read-only"):
        found.probabilities[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.model = "x"  # type: ignore[misc]


@pytest.mark.parametrize(("top", "count"), [(1, 1), (5, 5), (10, 10), (5000, 10), (None, 10)])
def test_top(classifier: Classifier, photo: Path, top: int | None, count: int) -> None:
    labels = classifier.classify(photo, top=top).labels
    assert len(labels) == count
    assert [x.probability for x in labels] == sorted((x.probability for x in labels), reverse=True)


@pytest.mark.parametrize("top", [0, -1, 2.5, "5", True])
def test_a_senseless_top_is_a_usage_error(classifier: Classifier, photo: Path, top: Any) -> None:
    with pytest.raises(errors.UsageError, match="at least 1"):
        classifier.classify(photo, top=top)
    with pytest.raises(errors.UsageError, match="at least 1"):
        classifier.classify_many([photo], top=top)


def test_ties_go_to_the_lower_index(tmp_path: Path, photo: Path) -> None:
    weights = oracle.he_normal(oracle.TINY)
    kernel, bias = weights["predictions"]
    weights["predictions"] = (np.zeros_like(kernel), np.zeros_like(bias))
    path = tmp_path / "flat.onnx"
    path.write_bytes(oracle.tiny_onnx(weights))
    with photolabel.load(path) as flat:
        assert [label.index for label in flat.classify(photo, top=None).labels] == list(range(10))


def test_many_stream_one_by_one_and_a_bad_one_costs_only_itself(
    classifier: Classifier, photo: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no photo")
    asked: list[object] = []

    def photos() -> object:
        for each in (photo, bad, tmp_path / "missing.jpg", photo):
            asked.append(each)
            yield each

    stream = classifier.classify_many(photos())  # type: ignore[arg-type]
    first = next(stream)
    assert len(asked) == 1, "photos are taken as they are needed"
    second, third, fourth = stream
    assert first == fourth == classifier.classify(photo)
    assert isinstance(second.error, errors.CorruptPhotoError) and second.photo == str(bad)
    assert isinstance(third.error, errors.PhotoNotFoundError)
    assert second.labels == () and second.answer is None and second.probabilities.size == 0
    with pytest.raises(errors.CorruptPhotoError):
        _ = second.top
    assert str(second).startswith("error: ")


def test_a_mistake_of_the_caller_is_not_taken_for_a_bad_photo(classifier: Classifier) -> None:
    with pytest.raises(errors.UsageError):
        list(classifier.classify_many([np.zeros((2, 2), np.uint8)]))


def test_threads_share_a_classifier(classifier: Classifier, photo: Path) -> None:
    expected = classifier.classify(photo)
    found: list[Prediction] = []
    workers = [threading.Thread(target=lambda: found.append(classifier.classify(photo))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 8
    for each in found:
        np.testing.assert_array_equal(each.probabilities, expected.probabilities)


def test_it_pickles_as_what_it_was_loaded_with(tiny: Path, photo: Path) -> None:
    limits = images.Limits(pixels=5000)
    with photolabel.load(tiny, recipe="keras", threads=1, limits=limits) as original:
        data = pickle.dumps(original)
        assert len(data) < 2000, "the name travels, not the weights"
        with pickle.loads(data) as loaded:
            assert loaded.recipe == original.recipe and loaded.limits == limits
            assert loaded.classify(photo) == original.classify(photo)
        assert copy.copy(original.classify(photo)) == original.classify(photo)


def test_the_default_stays_itself_when_pickled(photo: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with photolabel.load() as default:
        data = pickle.dumps(default)
    monkeypatch.setenv("PHOTOLABEL_MODEL", str(tiny))
    with pickle.loads(data) as again:
        assert again.model.name == models.BUNDLED
    with photolabel.load() as pinned:
        data = pickle.dumps(pinned)
    monkeypatch.delenv("PHOTOLABEL_MODEL")
    with pickle.loads(data) as again:
        assert again.model.name == "tiny"


def test_a_network_without_its_softmax_is_refused(tmp_path: Path, photo: Path) -> None:
    """It would print 492 %."""
    spec = dataclasses.replace(oracle.TINY, activation="linear")
    weights = oracle.he_normal(spec)
    path = tmp_path / "linear.onnx"
    path.write_bytes(b"".join(graph.build(spec, weights, models.CAFFE, describe=oracle.tiny_model().describe())))
    with photolabel.load(path) as classifier, pytest.raises(errors.InvalidModelError, match="probabilities"):
        classifier.classify(photo)


def test_a_damaged_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = models.known()[models.BUNDLED]
    assert bundled.path
    data = bytearray(bundled.path.read_bytes())
    data[5_000_000] ^= 0xFF
    damaged = tmp_path / bundled.path.name
    damaged.write_bytes(data)
    model = dataclasses.replace(bundled, path=damaged)
    monkeypatch.setattr(models, "known", lambda: {model.name: model})
    with pytest.raises(errors.InvalidModelError, match="damaged; it came with photolabel. .*force-reinstall"):
        photolabel.load(models.BUNDLED)


def test_a_prediction_pickles(classifier: Classifier, photo: Path, tmp_path: Path) -> None:
    for each in classifier.classify_many([photo, tmp_path / "missing.jpg"]):
        again = pickle.loads(pickle.dumps(each))
        assert again.record() == each.record()


def test_closed_it_says_so(tiny: Path, photo: Path) -> None:
    closed = photolabel.load(tiny)
    closed.close()
    closed.close()
    with pytest.raises(errors.UsageError, match="closed"):
        closed.classify(photo)


def test_recipes_are_picked_by_name(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny, recipe="keras") as squashed, photolabel.load(tiny) as cropped:
        assert squashed.classify(photo).recipe == "keras"
        assert squashed.classify(photo).probabilities.tolist() != cropped.classify(photo).probabilities.tolist()
    with pytest.raises(errors.UsageError, match="It has: tiny, keras"):
        photolabel.load(tiny, recipe="crop")


def test_the_limit_on_pixels_is_an_option(tiny: Path, photo: Path) -> None:
    with photolabel.load(tiny, limits=images.Limits(pixels=60 * 45)) as enough:
        enough.classify(photo)
    with (
        photolabel.load(tiny, limits=images.Limits(pixels=60 * 45 - 1)) as short,
        pytest.raises(errors.PhotoTooLargeError, match="60 x 45"),
    ):
        short.classify(photo)


def test_labels_must_be_as_many_as_the_networks_classes(tmp_path: Path) -> None:
    """A list of labels of another model would give wrong names without a word."""
    model = dataclasses.replace(oracle.tiny_model(), labels=oracle.TINY_LABELS[:9])
    path = tmp_path / "nine.onnx"
    path.write_bytes(oracle.tiny_onnx(model=model))
    with pytest.raises(errors.InvalidModelError, match="names 9 classes but its network has 10"):
        photolabel.load(path)


def test_a_recipe_must_fit_the_network(tmp_path: Path) -> None:
    model = dataclasses.replace(oracle.tiny_model(), recipes=(models.KERAS,))
    path = tmp_path / "large.onnx"
    path.write_bytes(
        b"".join(graph.build(oracle.TINY, oracle.he_normal(oracle.TINY), models.CAFFE, describe=model.describe()))
    )
    with pytest.raises(errors.InvalidModelError, match="32 x 32"):
        photolabel.load(path)


def test_the_one_liner() -> None:
    found = photolabel.classify(ROOT / "samples" / "coffee.jpg")
    assert found.model == models.BUNDLED and found.top.name == "espresso"
    assert len(found.labels) == 5


def test_a_named_model_is_never_replaced_by_another() -> None:
    with pytest.raises(errors.MissingWeightsError, match="vgg16"):
        photolabel.load("vgg16")


def test_the_bundled_model_names_a_hundred_photos(shared: Path) -> None:
    """A check of the whole path, not an accuracy: the network was trained on such photos."""
    photos = sorted((shared / "imagenet100").iterdir())
    assert len(photos) == 100
    first = fifth = 0
    with photolabel.load(models.BUNDLED) as bundled:
        for prediction in bundled.classify_many(photos):
            wnid = Path(prediction.photo or "").name.partition("_")[0]
            ranked = [label.wnid for label in prediction.labels]
            first += wnid == ranked[0]
            fifth += wnid in ranked
    assert first >= 89 and fifth >= 97, (first, fifth)
