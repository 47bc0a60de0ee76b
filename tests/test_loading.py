"""Names and files -> a Classifier: several models, several views, calibrated or not, here and in another process."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photolabel
from photolabel import answer, calibration, engine, explain, images, look, member, models, prepared
from photolabel.calibration import Calibration
from photolabel.classifier import Classifier
from photolabel.errors import InvalidModelError, UnknownModelError, UsageError
from photolabel.labels import Label
from photolabel.member import Member, Network

import oracle
from conftest import ROOT

SCORES = tuple(i / 100 for i in range(100))


@pytest.fixture(autouse=True)
def _shared_cache(_own_world: None, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all of them, or each would compile the networks anew; calibrations are each test's own."""
    cache = tiny.parent / "loading-cache"
    monkeypatch.setenv("PHOTOLABEL_CACHE", str(cache))
    shutil.rmtree(cache / "calibrations", ignore_errors=True)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VGG of other weights, with the same classes."""
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    model = replace(oracle.tiny_model(), name="other", source="seeded otherwise", licence="MIT")
    path.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=1), model))
    return path


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny VGG, but its classes are called otherwise."""
    path = tmp_path_factory.mktemp("unlike") / "unlike.onnx"
    labels = tuple(Label(i, None, f"thing {i}") for i in range(10))
    path.write_bytes(oracle.tiny_onnx(model=replace(oracle.tiny_model(), name="unlike", labels=labels)))
    return path


def said(model: str | Path, photo: object, **options: Any) -> photolabel.Prediction:
    with photolabel.load(model, threads=1, **options) as classifier:
        return classifier.classify(photo, top=None)  # type: ignore[arg-type]


class Opened:
    """The networks that have been opened, and which of them are closed again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.members: list[Member] = []
        self.networks = 0
        self.closed: list[Member] = []
        real_open, real_init, real_close = Network.open, Member.__init__, Member.close

        def opened(network: Network, cut: engine.Cut = engine.WHOLE) -> engine.Engine:
            self.networks += 1
            return real_open(network, cut)

        def init(made: Member, *given: Any, **options: Any) -> None:
            real_init(made, *given, **options)
            self.members.append(made)

        def close(made: Member) -> None:
            self.closed.append(made)
            real_close(made)

        monkeypatch.setattr(Network, "open", opened)
        monkeypatch.setattr(Member, "__init__", init)
        monkeypatch.setattr(Member, "close", close)


# -- several models


def test_two_models_are_the_mean_of_both(tiny: Path, other: Path, photo: Path) -> None:
    one, two = (said(path, photo).probabilities for path in (tiny, other))
    assert np.abs(one - two).max() > 1e-3
    with photolabel.load(f"{tiny}+{other}", threads=1) as both:
        found = both.classify(photo)
        np.testing.assert_allclose(found.probabilities, (one + two) / 2, rtol=0, atol=1e-7)
        assert both.several and both.model.name == found.model == "tiny+other"
        assert (found.recipe, found.precision) == ("tiny", "fp32")
        assert (both.model.source, both.model.licence) == ("seeded + seeded otherwise", "CC0 + MIT")
        assert both.model.labels == oracle.TINY_LABELS and both.model.spec is both.model.path is None
        assert repr(both) == "<Classifier tiny+other, recipe tiny, fp32, openvino>"
        assert both.network is None and both.digest is not None
        assert both.digest.split("+") == [each.digest for each in both._members]
        assert [each[1:] for each in both.identity] == [[oracle.TINY_RECIPE.to_dict(), "fp32"]] * 2
        assert found.opinions is not None
        members = found.opinions.members
        assert [(each.model, each.recipe, each.views) for each in members] == [
            ("tiny", "tiny", 1),
            ("other", "tiny", 1),
        ]
        for each, probabilities in zip(members, (one, two), strict=True):
            assert each.label.index == probabilities.argmax()
            assert each.label.probability == probabilities.max()
            assert each.agreement == float(each.label.index == found.top.index)
        assert found.opinions.agreement == np.mean([each.agreement for each in members])
        assert found.disagreeing == (found.opinions.agreement < 0.75)


def test_the_same_models_in_another_order_give_the_same_answer(tiny: Path, other: Path, photo: Path) -> None:
    there, back = (said(f"{a}+{b}", photo).probabilities for a, b in ((tiny, other), (other, tiny)))
    np.testing.assert_array_equal(there, back)


def test_photos_on_which_two_disagree(other: Path, tmp_path: Path) -> None:
    """The second thinks more of class 5, so on some photos it says another than the first."""
    weights = oracle.he_normal(oracle.TINY, seed=1)
    weights["predictions"][1][5] += 1
    partial = tmp_path / "partial.onnx"
    partial.write_bytes(oracle.tiny_onnx(weights, replace(oracle.tiny_model(), name="partial")))
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize((48, 36)) for _ in range(60)]
    with photolabel.load(f"{other}+{partial}", threads=1) as both:
        found = list(both.classify_many(photos))
    for each in found:
        assert each.opinions is not None
        labels = [member.label.index for member in each.opinions.members]
        shares = [float(label == each.top.index) for label in labels]
        assert [member.agreement for member in each.opinions.members] == shares
        assert each.opinions.agreement == np.mean(shares) and each.disagreeing == (labels[0] != labels[1])
    assert 5 < sum(each.disagreeing for each in found) < 55


def test_each_looks_by_its_own_recipe(tiny: Path, tmp_path: Path, photo: Path) -> None:
    mine = replace(oracle.TINY_RECIPE, name="near", side=60)
    path = tmp_path / "near.onnx"
    model = replace(oracle.tiny_model(), name="near", recipes=(mine,))
    path.write_bytes(oracle.tiny_onnx(oracle.he_normal(oracle.TINY, seed=3), model))
    with photolabel.load(f"{tiny}+{path}", threads=1) as both:
        assert both.recipes == (oracle.TINY_RECIPE, mine) and both.recipe == oracle.TINY_RECIPE
        found = both.classify(photo)
    assert found.recipe == "tiny+near" and found.decoding is not None
    expected = (said(tiny, photo).probabilities + said(path, photo).probabilities) / 2
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-7)


def test_unlike_classes_are_refused(tiny: Path, unlike: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(monkeypatch)
    with pytest.raises(UsageError, match="tiny and unlike do not have the same classes in the same order"):
        photolabel.load(f"{tiny}+{unlike}", threads=1)
    assert opened.closed == opened.members and len(opened.members) == 2


def test_a_name_that_is_none_opens_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(monkeypatch)
    for names in (f"{tiny}+", f"+{tiny}", f"{tiny}+vgg61", "+", "vgg61+vgg16"):
        with pytest.raises(UnknownModelError, match="no model"):
            photolabel.load(names)
    assert not opened.networks


@pytest.mark.parametrize(("models_", "views"), [(9, "one"), (5, "mirror+one"), (1, "+".join(["one"] * 9))])
def test_too_many(tiny: Path, models_: int, views: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(monkeypatch)
    with pytest.raises(UsageError, match="at most 8 models times views"):
        photolabel.load("+".join([str(tiny)] * models_), views=views)
    assert not opened.networks


def test_a_file_whose_name_has_a_plus_in_it(tiny: Path, other: Path, photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "a+b.onnx"
    shutil.copy(tiny, path)
    for name in (str(path), path):
        with photolabel.load(name, threads=1) as classifier:
            assert not classifier.several and classifier.model.name == "tiny"
            with pickle.loads(pickle.dumps(classifier)) as again:
                assert again.classify(photo) == classifier.classify(photo)


def test_several_by_the_setting(tiny: Path, other: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpickled they are the same, whatever is set by then."""
    monkeypatch.setenv("PHOTOLABEL_MODEL", f"{tiny}+{other}")
    with photolabel.load(threads=1) as both:
        assert both.model.name == "tiny+other"
        expected = both.classify(photo)
        data = pickle.dumps(both)
    monkeypatch.setenv("PHOTOLABEL_MODEL", str(other))
    with photolabel.load(threads=1) as only:
        assert only.model.name == "other"
    with pickle.loads(data) as again:
        assert again.classify(photo) == expected


# -- several views


@pytest.mark.parametrize(
    ("views", "scales", "recipes", "counts"),
    [
        ("mirror", (), ["tiny mirror"], [2]),
        ("ten-crop", (), ["tiny ten-crop"], [10]),
        ("ten-crop", (36, 48), ["tiny ten-crop 36,48"], [20]),
        ("dense", (40,), ["tiny dense 40"], [2]),
        (None, (40, 48), ["tiny 40,48"], [2]),
        ("multi-crop+dense", (36, 48), ["tiny multi-crop 36,48", "tiny dense 36,48"], [100, 4]),
    ],
)
def test_views_are_the_mean_of_what_each_shows(
    tiny: Path, photo: Path, views: str | None, scales: tuple[int, ...], recipes: list[str], counts: list[int]
) -> None:
    with photolabel.load(tiny, views=views, scales=scales, threads=1) as classifier:
        found = classifier.classify(photo)
        assert [str(recipe) for recipe in classifier.recipes] == recipes and classifier.several
        assert classifier.model.name == "tiny" and classifier.network == tiny
        means = []
        for each in classifier._members:
            looks = images.views(images.read(photo), each.recipe)
            alone = np.stack([each.run(look_[np.newaxis].astype(np.float32))[0] for look_ in looks])
            means.append(alone.mean(axis=0))
    np.testing.assert_allclose(found.probabilities, np.mean(means, axis=0), rtol=0, atol=1e-7)
    assert found.recipe == "+".join(recipes) and found.opinions is not None
    assert [each.views for each in found.opinions.members] == counts
    assert [each.recipe for each in found.opinions.members] == recipes
    assert {each.model for each in found.opinions.members} == {"tiny"}
    record = found.record()
    assert record["opinions"]["members"][0]["views"] == counts[0] and isinstance(record["opinions"]["members"], list)


def test_one_look_is_no_second_opinion(tiny: Path, photo: Path) -> None:
    found = said(tiny, photo)
    assert found.opinions is None and not found.disagreeing and found.record()["opinions"] is None
    single = said(tiny, photo, views="one", scales=[36])
    np.testing.assert_array_equal(single.probabilities, found.probabilities)
    assert single.opinions is None and single.recipe == "tiny 36"


def test_scales_by_the_network_s_size(tiny: Path, photo: Path) -> None:
    asked = []

    def scales(size: int) -> Sequence[int]:
        asked.append(size)
        return [size + 8, size + 16]

    by_size = said(tiny, photo, views="mirror", scales=scales)
    np.testing.assert_array_equal(
        by_size.probabilities, said(tiny, photo, views="mirror", scales=(40, 48)).probabilities
    )
    assert asked == [32] and by_size.recipe == "tiny mirror 40,48"


def test_two_models_of_two_views_each(tiny: Path, other: Path, photo: Path) -> None:
    found = said(f"{tiny}+{other}", photo, views="mirror+dense", scales=(40,))
    assert found.opinions is not None and found.model == "tiny+other"
    looks = [(each.model, each.recipe) for each in found.opinions.members]
    assert looks == [(name, way) for name in ("tiny", "other") for way in ("tiny mirror 40", "tiny dense 40")]
    each = [
        said(path, photo, views=way, scales=(40,)).probabilities
        for path in (tiny, other)
        for way in ("mirror", "dense")
    ]
    np.testing.assert_allclose(found.probabilities, np.mean(each, axis=0), rtol=0, atol=1e-7)
    assert found.recipe == "tiny mirror 40+tiny dense 40"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"views": "twice"}, "views must be one of one, mirror, ten-crop, multi-crop, dense"),
        ({"views": ""}, "views must be one of"),
        ({"views": "mirror+"}, "views must be one of"),
        ({"views": "mirror+twice"}, "views must be one of"),
        ({"views": 2}, "views=2: expected a word"),
        ({"views": ["mirror"]}, "expected a word"),
        ({"scales": (20,)}, "scales .* lie from its size, 32"),
        ({"scales": (40, 40)}, "must differ"),
        ({"scales": (40.5,)}, "whole numbers"),
        ({"scales": tuple(range(40, 50))}, "at most 8"),
        ({"scales": 256}, "scales=256: expected several sides"),
        ({"scales": "256"}, "scales='256': expected several sides"),
        ({"scales": None}, "scales=None: expected several sides"),
        ({"views": "mirror+dense", "scales": (2000,)}, "that is as far as dense goes"),
        ({"views": "ten-crop", "recipe": "keras"}, "recipe that squashes"),
        ({"scales": (40,), "recipe": "keras"}, "recipe that squashes"),
        ({"recipe": "crop"}, "has no recipe 'crop'"),
    ],
    ids=repr,
)
def test_wrong_views_and_scales_leave_nothing_open(
    tiny: Path, wrong: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(monkeypatch)
    with pytest.raises(UsageError, match=says):
        photolabel.load(tiny, **wrong)
    assert opened.closed == opened.members and opened.networks == len(opened.members)


def test_a_member_that_does_not_fit_leaves_no_other_open(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(oracle.tiny_onnx(model=replace(oracle.tiny_model(), recipes=(models.KERAS,))))
    opened = Opened(monkeypatch)
    with pytest.raises(InvalidModelError, match="224 x 224"):
        photolabel.load(f"{tiny}+{path}")
    assert opened.closed == opened.members and len(opened.members) == 1


# -- what only one model can be asked


@pytest.mark.parametrize("options", [{"model": "both"}, {"views": "mirror"}, {"scales": (36, 40)}], ids=repr)
def test_what_only_one_look_can_be_asked(tiny: Path, other: Path, photo: Path, options: dict[str, Any]) -> None:
    given = {"model": tiny, **options}
    if given["model"] == "both":
        given["model"] = f"{tiny}+{other}"
    pixels = images.prepare(images.read(photo), oracle.TINY_RECIPE)[np.newaxis]
    with photolabel.load(**given, threads=1) as classifier:
        for asked in (
            lambda: classifier.run(pixels),
            lambda: classifier.part(engine.Cut(layers=("fc2",), only=True)),
            lambda: classifier.features([photo]),
            lambda: classifier.features([photo], layer="fc2"),
            lambda: explain.explain(classifier, photo),
            lambda: explain.explain(classifier, photo, method="occlusion"),
        ):
            with pytest.raises(UsageError, match="this one averages several answers"):
                asked()
        assert classifier.classify(photo).error is None, "and it goes on"


def test_looking_and_explaining_are_as_they_were(tiny: Path, photo: Path) -> None:
    """A single other scale is one look, and is drawn and explained like any."""
    with photolabel.load(tiny, threads=1) as plain, photolabel.load(tiny, scales=(48,), threads=1) as scaled:
        assert not plain.several and not scaled.several
        shown = look.look(photo, plain.recipe)
        np.testing.assert_array_equal(shown.pixels, prepared.prepare(photo, plain.recipe).pixels)
        nearer = look.look(photo, scaled.recipe)
        assert nearer.cut != shown.cut
        for classifier in (plain, scaled):
            found = explain.explain(classifier, photo)
            assert found.label.index == classifier.classify(photo).top.index and found.map.shape == (32, 32)
    many = replace(oracle.TINY_RECIPE, views="ten-crop")
    assert look.look(photo, many).cut == shown.cut, "the middle"


# -- closing


def test_closed_all_of_it_is(tiny: Path, other: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(monkeypatch)
    loaded = photolabel.load(f"{tiny}+{other}", views="mirror+one", threads=1)
    loaded.close()
    assert opened.closed == opened.members and len(opened.members) == 4
    with pytest.raises(UsageError, match="closed"):
        loaded.classify(photo)
    loaded.close()


# -- pickled


@pytest.mark.parametrize(
    "options",
    [
        {"views": "ten-crop", "scales": [36, 48]},
        {"views": "mirror+dense"},
        {"scales": (40, 48)},
        {"calibrated": False},
        {"calibrated": False, "views": "mirror"},
        {"model": "both", "recipe": "keras", "views": "mirror"},
        {"model": "both", "limits": images.Limits(pixels=5000)},
    ],
    ids=repr,
)
def test_it_pickles_as_what_it_was_loaded_with(tiny: Path, other: Path, photo: Path, options: dict[str, Any]) -> None:
    given = {"model": tiny, **options}
    if given["model"] == "both":
        given["model"] = f"{tiny}+{other}"
    with photolabel.load(**given, threads=1) as original:
        learnt = Calibration(temperature=0.5, scores=SCORES, right=90, floor=0.0)
        calibration.keep(original.identity, learnt)
        expected = original.classify(photo)
        data = pickle.dumps(original)
        assert len(data) < 2000, "the names travel, not the weights"
    if options.get("calibrated", True):
        with photolabel.load(**given, threads=1) as original:
            expected = original.classify(photo)
            assert expected.calibration is not None
    with pickle.loads(data) as again:
        found = again.classify(photo)
        assert found == expected and again.limits == original.limits and again.recipes == original.recipes
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_a_function_of_scales_pickles_if_it_can(tiny: Path, photo: Path) -> None:
    from photolabel.evaluate import protocols

    scales = replace(protocols.find("multi-scale"), sides=(252, 336)).scales
    with photolabel.load(tiny, views="mirror", scales=scales, threads=1) as original:
        with pickle.loads(pickle.dumps(original)) as again:
            assert again.classify(photo) == original.classify(photo)
        assert str(original.recipe) == "tiny mirror 36,48"


# -- calibrated, exactly as it is used


def test_a_calibration_is_of_these_members_only(tiny: Path, other: Path, photo: Path) -> None:
    learnt = Calibration(temperature=0.5, scores=SCORES, right=90, floor=0.0)
    with photolabel.load(f"{tiny}+{other}", views="mirror+one", threads=1) as both:
        before = both.classify(photo)
        calibration.keep(both.identity, learnt)
    with photolabel.load(f"{tiny}+{other}", views="mirror+one", threads=1) as both:
        found = both.classify(photo, coverage=0.9)
    np.testing.assert_array_equal(found.probabilities, answer.tempered(before.probabilities, 0.5))
    assert found.opinions == before.opinions, "what each says by itself is the network's own"
    assert found.names is not None and found.calibration is not None
    for another in ({"model": f"{other}+{tiny}"}, {"views": "one+mirror"}, {"views": "mirror"}, {"scales": (40,)}):
        given: dict[str, Any] = {"model": f"{tiny}+{other}", "views": "mirror+one", **another}
        with photolabel.load(**given, threads=1) as unlike_:
            assert unlike_.calibration is None, another


# -- of members that were made by hand


def test_a_classifier_of_members(tiny: Path, photo: Path) -> None:
    network = Network(path=tiny, precision="fp32", threads=1, runtime="openvino")
    made = [Member(oracle.tiny_model(), network.open(), recipe, network) for recipe in oracle.tiny_model().recipes]
    with Classifier.of(made) as classifier:
        found = classifier.classify(photo)
        assert found.recipe == "tiny+keras" and found.opinions is not None and len(found.opinions.members) == 2
        with pytest.raises(UsageError, match=r"made by photolabel\.load can be pickled"):
            pickle.dumps(classifier)
    assert member.BATCH == 16


def test_the_bundled_model_with_itself() -> None:
    """The same twice is the same."""
    photo = ROOT / "samples" / "coffee.jpg"
    with (
        photolabel.load("efficientnet-lite2") as plain,
        photolabel.load("efficientnet-lite2+efficientnet-lite2") as twice,
    ):
        one, two = plain.classify(photo), twice.classify(photo)
        np.testing.assert_array_equal(one.probabilities, two.probabilities)
        assert two.model == "efficientnet-lite2" and two.opinions is not None and two.opinions.agreement == 1
        assert os.fspath(photo) == two.photo
