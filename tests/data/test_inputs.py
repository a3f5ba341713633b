"""Images handed to a trained network: of another scale, axis order or kind."""

import re

import numpy as np
import pytest

import jaxnet
from jaxnet.cli.parser import main
from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError, DataError, DataWarning
from jaxnet.training.network import Network

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5, 3)).astype(np.uint8)
LABELS = np.arange(40) % 2


@pytest.fixture(scope="module", params=["none", "mean_image", "unit_range", "zca"])
def network(request, tmp_path_factory):
    """As it is read back from its file."""
    data = DataSet.from_arrays(IMAGES, LABELS, IMAGES, LABELS)
    result = jaxnet.train(
        data, steps=2, batch_size=8, hidden=(4,), learning_rate=1e-6, preprocessing=request.param
    )
    assert result.network is not None
    path = tmp_path_factory.mktemp("networks") / "network.safetensors"
    result.network.save(path)
    return Network.load(path)


@pytest.mark.parametrize("how", [lambda x: x / 255, lambda x: x / 127.5 - 1, lambda x: x > 128.0])
def test_another_scale_is_said(network, how):
    with pytest.warns(DataWarning, match=r"images range from .* to 1, .* images from 0 to 255"):
        network.predict(np.float32(how(np.float64(IMAGES))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, ">f4", ">i2", np.float16])
def test_another_type_of_the_same_scale_is_the_same(network, dtype):
    np.testing.assert_array_equal(network.predict(IMAGES.astype(dtype)), network.predict(IMAGES))


def test_dark_and_black_images_are_images(network):
    network.predict(IMAGES // 10)
    network.predict(IMAGES[:3] * 0)
    assert network.predict(IMAGES[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda x: np.moveaxis(x, -1, 1), "put the channels last, np.moveaxis(images, 1, -1)"),
        (lambda x: np.transpose(x, (0, 3, 2, 1)), "np.transpose(images, (0, 3, 2, 1))"),
        (lambda x: x.reshape(40, -1), "images.reshape(-1, 6, 5, 3)"),
        (lambda x: x[:, None], "images.reshape(-1, 6, 5, 3)"),
        (lambda x: x[0], "image[None]"),
        (lambda x: x[:, :5], "use the network that was trained on such images"),
        (lambda x: np.swapaxes(x, 2, 3), "use the network that was trained on such images"),
    ],
)
def test_another_shape_is_refused_with_what_makes_it_the_network_s(network, change, remedy):
    given = change(IMAGES)
    message = f"expected images of shape [n, 6, 5, 3], got {list(given.shape)}: "
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}.*{re.escape(remedy)}$"):
        network.predict(given)
    if remedy.endswith(")"):
        code = remedy[remedy.index("np.") if "np." in remedy else remedy.index("images") :]
        np.testing.assert_array_equal(eval(code, {"np": np, "images": given}), IMAGES)


def holed(row, value):
    images = IMAGES.astype(np.float64)
    images[row, 1, 2, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            holed(7, np.nan),
            r"1 value is NaN or infinite in float32, .*row 7, column \[1, 2, 0\]: nan",
        ),
        (holed(39, -np.inf), "row 39.*-inf"),
        (holed(0, 1e300), r"row 0.*1e\+300"),
        (np.ma.masked_equal(IMAGES, IMAGES[9, 0, 0, 0]), "masked, the first in row .*filled"),
        (IMAGES > 9, "expected images of numbers, got bool"),
        (IMAGES.astype(object), "expected numbers, got object"),
        (IMAGES.astype(str), "expected numbers, got <U"),
    ],
)
def test_what_are_no_finite_numbers_is_refused(network, images, message):
    with pytest.raises(DataError, match=message):
        network.predict(images)


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    out, file = tmp_path / "run", tmp_path / "images.npy"
    arguments = ["train", "--hidden", "--steps", "2", "--quiet", "--out", str(out)]
    assert main(arguments) == 0
    np.save(file, jaxnet.data.load("fashion-mnist-mini").test_images[:5] / np.float32(255))
    capsys.readouterr()
    assert main(["predict", str(out), "--images", str(file)]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 5
    (line,) = said.err.splitlines()
    assert line.startswith(
        "jaxnet: images range from 0 to 1, but the network was trained on images from 0 to 255"
    )
