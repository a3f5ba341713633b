"""A network on its own: what it scores, what its file says, and which files are none."""

import itertools
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxnet import Network, train
from jaxnet.data import DataSet, Examples, fit
from jaxnet.errors import ConfigurationError, DataError, RunFolderError
from jaxnet.training.settings import Net

SHAPE, CLASSES = (4, 3, 1), ("ankle boot", "shirt", "Kleid ß")


def some_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def weights(generator, inputs, outputs, dtype):
    w = generator.normal(size=(inputs, outputs)) / np.sqrt(inputs)
    return {"w": w.astype(dtype), "b": generator.normal(size=outputs).astype(dtype)}


def make(hidden=(5, 4), norm="none", preprocessing="standardize", dtype=np.float32, **settings):
    generator = np.random.default_rng(3)
    fitted = fit(some_images(50), preprocessing, **settings)
    sizes = [fitted.output_shape[0], *hidden, len(CLASSES)]
    params, state = {}, {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
        params[f"affine_{i}"] = weights(generator, inputs, outputs, dtype)
        if norm != "none" and i <= len(hidden):
            scale, shift, mean = generator.normal(size=(3, outputs)).astype(dtype)
            params[f"{norm}norm_{i}"] = {"scale": scale, "shift": shift}
            if norm == "batch":
                variance = generator.uniform(0.5, 2, outputs).astype(dtype)
                state[f"batchnorm_{i}"] = {"running_mean": mean, "running_variance": variance}
    return Network(
        net=Net(hidden=hidden, activation="tanh", norm=norm),
        input_shape=SHAPE,
        class_names=CLASSES,
        preprocessing=fitted,
        params=params,
        state=state,
        settings={"learning_rate": 0.1, "hidden": list(hidden), "components": None},
    )


def by_numpy(network, images):
    """The same scores in float64, written from the equations."""
    fitted = network.preprocessing.to_arrays()
    x = images.reshape(len(images), -1) - fitted["mean"].astype(np.float64)
    x = x * fitted.get("scale", 1.0)
    x = x @ fitted["projection"].astype(np.float64) if "projection" in fitted else x
    for i in range(1, len(network.net.hidden) + 2):
        affine = network.params[f"affine_{i}"]
        x = x @ affine["w"].astype(np.float64) + affine["b"]
        if i > len(network.net.hidden):
            return x
        if network.net.norm == "batch":
            running = network.state[f"batchnorm_{i}"]
            x = (x - running["running_mean"]) / np.sqrt(running["running_variance"] + 1e-5)
        if network.net.norm == "layer":
            x = x - x.mean(axis=1, keepdims=True)
            x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
        if network.net.norm != "none":
            normalize = network.params[f"{network.net.norm}norm_{i}"]
            x = normalize["scale"] * x + normalize["shift"]
        x = np.tanh(x)


# Scores are sums of some ten float32 products of size one: a few ulps of 6e-8 each.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)], ids=str)
def test_scores_are_those_of_the_equations(norm, hidden):
    network, images = make(hidden, norm), some_images(20, seed=1)
    np.testing.assert_allclose(network.scores(images), by_numpy(network, images), **FLOAT32)


def test_batchnorm_scores_by_its_running_statistics_and_not_by_the_batch():
    """One image alone scores as among others; with the batch's own statistics it could not."""
    network, images = make((5,), "batch"), some_images(20, seed=1)
    together = network.scores(images)
    alone = np.concatenate([network.scores(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(together[:3], alone, **FLOAT32)
    running = {"batchnorm_1": dict(network.state["batchnorm_1"])}
    running["batchnorm_1"]["running_mean"] = running["batchnorm_1"]["running_mean"] + 1
    fields = {name: getattr(network, name) for name in network.__dataclass_fields__}
    moved = Network(**{**fields, "state": running})
    assert np.abs(moved.scores(images) - together).max() > 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {"preprocessing": "none"},
        {"preprocessing": "mean_image"},
        {"preprocessing": "zca"},
        {"preprocessing": "pca", "components": 3},
    ],
    ids=str,
)
def test_scores_with_every_preprocessing(settings):
    network, images = make((5,), **settings), some_images(20, seed=1)
    np.testing.assert_allclose(network.scores(images), by_numpy(network, images), **FLOAT32)


def test_scores_in_float64_are_those_of_float64():
    """Up to the preprocessing, which is of float32."""
    network, images = make(dtype=np.float64, preprocessing="mean_image"), some_images(20, seed=1)
    scores = network.scores(images)
    assert scores.dtype == np.float64
    centred = by_numpy(network, images)
    np.testing.assert_allclose(scores, centred, rtol=1e-5, atol=1e-5)
    again = make(preprocessing="mean_image").scores(images)
    assert np.abs(again - centred).max() > np.abs(scores - centred).max()
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500])
def test_images_are_scored_one_by_one_however_many(count):
    """Batches are cut at 1000 and padded: every row must be where it was."""
    network, images = make(), some_images(count, seed=2)
    scores = network.scores(images)
    assert scores.shape == (count, 3)
    np.testing.assert_allclose(scores, by_numpy(network, images), **FLOAT32)
    np.testing.assert_array_equal(network.predict(images), scores.argmax(axis=1))
    assert network.predict(images).dtype == np.int32


def test_no_images_no_scores():
    assert make().scores(some_images(0)).shape == (0, 3)
    assert make().predict(some_images(0)).shape == (0,)


def test_floating_images_are_scored_as_they_are():
    network, images = make(), some_images(20, seed=1)
    np.testing.assert_allclose(
        network.scores(images.astype(np.float32)), network.scores(images), **FLOAT32
    )


def test_the_accuracy_is_the_share_of_labels_hit():
    network, images = make(), some_images(200, seed=1)
    labels = by_numpy(network, images).argmax(axis=1).astype(np.int32)
    assert network.accuracy(Examples(images, labels)) == 1.0
    labels[:50] = (labels[:50] + 1) % 3
    assert network.accuracy(Examples(images, labels)) == 0.75


@pytest.mark.parametrize(
    "shape", [(2, 4, 3), (2, 12), (2, 3, 4, 1), (4, 3, 1), (2, 4, 3, 3), (12,)]
)
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ConfigurationError, match=r"expected images of shape \[n, 4, 3, 1\], got"):
        make().scores(np.zeros(shape, np.uint8))


def test_images_that_are_no_numbers_are_refused():
    for images in (np.full((2, *SHAPE), np.nan, np.float32), np.full((2, *SHAPE), "a")):
        with pytest.raises((ConfigurationError, DataError), match="images"):
            make().scores(images)


# Files


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden": (), "preprocessing": "none"},
        {"norm": "batch", "preprocessing": "zca"},
        {"norm": "layer", "preprocessing": "pca", "variance": 0.9},
        {"dtype": np.float64},
    ],
    ids=str,
)
def test_a_network_comes_back_from_its_file_bit_by_bit(tmp_path, settings):
    network, path = make(**settings), tmp_path / "net.safetensors"
    network.save(path)
    loaded = Network.load(path)
    for name in ("net", "input_shape", "class_names", "settings"):
        assert getattr(loaded, name) == getattr(network, name), name
    for one, other in (
        (loaded.params, network.params),
        (loaded.state, network.state),
        (loaded.preprocessing.to_arrays(), network.preprocessing.to_arrays()),
    ):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    images = some_images(9, seed=4)
    np.testing.assert_array_equal(loaded.scores(images), network.scores(images))
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_arrays_are_stored_by_their_axes_and_not_as_they_lie_in_memory(tmp_path):
    network = make()
    network.params["affine_1"]["w"] = np.asfortranarray(network.params["affine_1"]["w"])
    network.save(tmp_path / "net.safetensors")
    loaded = Network.load(str(tmp_path / "net.safetensors"))  # a text is a path too
    np.testing.assert_array_equal(loaded.params["affine_1"]["w"], network.params["affine_1"]["w"])


def test_saving_replaces_the_file_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    make().save(path)

    def fail(*arguments):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        patch.setattr("pathlib.Path.replace", fail)
        with pytest.raises(RunFolderError, match=r"cannot write .*net\.safetensors.*No space"):
            make(hidden=()).save(path)
    assert Network.load(path).net.hidden == (5, 4)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot write .*net\.safetensors.*No such file"):
        make().save(tmp_path / "gone" / "net.safetensors")


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(RunFolderError, match=r"no weights at .*: expected a file such as best"):
            Network.load(path)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.999])
def test_a_truncated_file(tmp_path, share):
    path = tmp_path / "net.safetensors"
    make().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"net\.safetensors is not a whole safetensors file"):
        Network.load(path)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"\x93NUMPY and so on")
    with pytest.raises(DataError, match="is not a whole safetensors file"):
        Network.load(path)
    save_file({"w": np.zeros((3, 3))}, path)
    with pytest.raises(DataError, match="holds weights, but not of a jaxnet network"):
        Network.load(path)
    save_file({"w": np.zeros((3, 3))}, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match="holds weights, but not of a jaxnet network"):
        Network.load(path)


@pytest.mark.parametrize(
    "fault",
    [
        lambda tensors, said: ({}, said),
        lambda tensors, said: ({n: a for n, a in tensors.items() if "affine_2/w" not in n}, said),
        lambda tensors, said: ({n: a for n, a in tensors.items() if "mean" not in n}, said),
        lambda tensors, said: (
            {**tensors, "params/affine_1/w": np.zeros((7, 5), np.float32)},
            said,
        ),
        lambda tensors, said: (tensors, {**said, "net": {**said["net"], "hidden": [5]}}),
        lambda tensors, said: (tensors, {n: v for n, v in said.items() if n != "net"}),
        lambda tensors, said: (tensors, {**said, "net": {**said["net"], "activation": "relo"}}),
        lambda tensors, said: (tensors, {**said, "class_names": ["one", "two"]}),
        lambda tensors, said: (tensors, [said]),
    ],
    ids=[
        "no arrays",
        "no weights of a layer",
        "no mean",
        "weights of another shape",
        "a layer too few",
        "no net",
        "unknown activation",
        "a class too few",
        "a list",
    ],
)
def test_a_file_whose_parts_do_not_fit_together_is_refused_when_it_is_read(tmp_path, fault):
    path = tmp_path / "net.safetensors"
    make().save(path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        said = json.loads(file.metadata()["jaxnet"])
    tensors, said = fault(load_file(path), said)
    save_file(tensors, path, metadata={"jaxnet": json.dumps(said)})
    with pytest.raises(DataError):
        Network.load(path)


def test_metadata_that_is_no_json(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"w": np.zeros(3)}, path, metadata={"jaxnet": "{"})
    with pytest.raises(DataError, match=r"net.safetensors"):
        Network.load(path)


def test_a_trained_network_scores_what_its_training_saw():
    """The device preprocesses while gathering, the network before scoring: the same numbers."""
    images = some_images(120, seed=6)
    labels = (images.reshape(120, -1).mean(axis=1) > 127).astype(np.int64)
    data = DataSet.from_arrays(images, labels, images[:60], labels[:60])
    settings = {"hidden": [6], "norm": "batch", "batch_size": 20, "learning_rate": 0.3}
    result = train(data, steps=20, validation=30, **settings)
    splits = data.split(30)
    row = result.rows[0].outcome
    assert result.network.accuracy(splits.train) == pytest.approx(row.train_accuracy)
    assert result.network.accuracy(splits.validation) == pytest.approx(row.val_accuracy)
    assert row.train_accuracy > 0.7
