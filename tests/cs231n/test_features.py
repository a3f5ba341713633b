import math

import numpy as np
import pytest

from jaxnet.cs231n.features import color_histogram_hsv, extract_features, hog_feature, rgb2gray
from jaxnet.errors import ConfigurationError


def hog_by_hand(gray):
    """Pixel by pixel from Dalal and Triggs; cells by column, then row, then bin."""
    rows, columns = gray.shape[0] // 8, gray.shape[1] // 8
    result = np.zeros((columns, rows, 9))
    for y in range(rows * 8):
        for x in range(columns * 8):
            gx = gray[y, x + 1] - gray[y, x] if x + 1 < gray.shape[1] else 0.0
            gy = gray[y + 1, x] - gray[y, x] if y + 1 < gray.shape[0] else 0.0
            angle = math.degrees(math.atan2(gy, gx + 1e-15)) + 90
            if 0 < angle < 180:
                result[x // 8, y // 8, int(angle // 20)] += math.hypot(gx, gy) / 64
    return result.ravel()


@pytest.mark.parametrize("shape", [(32, 32), (8, 8), (16, 32), (21, 12)])
def test_gradient_histogram(shape):
    gray = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(hog_feature(gray), hog_by_hand(gray), rtol=1e-12, atol=1e-15)
    assert hog_feature(gray).shape == (shape[0] // 8 * (shape[1] // 8) * 9,)


def test_colours_go_through_the_courses_grey():
    image = np.random.default_rng(1).uniform(0, 255, (32, 32, 3))
    gray = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.144 * image[..., 2]
    np.testing.assert_allclose(rgb2gray(image), gray)
    np.testing.assert_allclose(hog_feature(image), hog_by_hand(rgb2gray(image)), rtol=1e-12)


def test_an_image_of_one_colour_has_no_gradient():
    np.testing.assert_array_equal(hog_feature(np.full((32, 32, 3), 9.0)), 0)


def test_hues():
    image = np.zeros((2, 2, 3))
    image[0, 0], image[0, 1], image[1, :] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    # Hues of 0, 1/3 and twice 2/3.
    assert color_histogram_hsv(image, nbin=3).tolist() == pytest.approx([0.25, 0.25, 0.5])
    counts = color_histogram_hsv(image, nbin=3, normalized=False)
    assert counts.tolist() == pytest.approx([85, 85, 170])
    assert color_histogram_hsv(image).shape == (10,)


def test_features_lie_side_by_side(capsys):
    images = np.random.default_rng(2).uniform(0, 255, (2001, 2, 2, 3))
    functions = [lambda image: image[0, :, 0], lambda image: image.mean((0, 1))]
    features = extract_features(images, functions, verbose=True)
    assert features.shape == (2001, 5)
    np.testing.assert_array_equal(features[:, :2], images[:, 0, :, 0])
    np.testing.assert_allclose(features[:, 2:], images.mean((1, 2)))
    assert capsys.readouterr().out == "".join(
        f"Done extracting features for {i} / 2001 images\n" for i in (1000, 2000)
    )
    assert extract_features(images[:0], functions).shape == (0,)
    grey = extract_features(images[:3, :, :, :1], [lambda image: image[0]])
    np.testing.assert_array_equal(grey, images[:3, 0, :, 0])


def test_mistakes_are_named():
    images = np.zeros((3, 4, 4, 3))
    with pytest.raises(ConfigurationError, match=r"got shape \(4, 4, 3\) from number 0"):
        extract_features(images, [lambda image: image])
    images[2] = 1
    with pytest.raises(ConfigurationError, match=r"image 2 has features of shapes \[\(2,\)\]"):
        extract_features(images, [lambda image: np.zeros(1 + int(image.max()))])
    with pytest.raises(ConfigurationError, match="at least 8×8 pixels, got 4×4"):
        hog_feature(images[0])
    with pytest.raises(ConfigurationError, match="from -5 to -5: take features before subtract"):
        color_histogram_hsv(images[0] - 5)
