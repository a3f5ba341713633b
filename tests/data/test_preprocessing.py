import numpy as np
import pytest

from jaxnet.data import fit, moments, preprocessing
from jaxnet.data.preprocessing import METHODS, Preprocessing
from jaxnet.errors import ConfigurationError, DataError

SETTINGS = {"pca": {"components": 5}}


def images(n=300, shape=(2, 3, 2), dtype=np.uint8, seed=0):
    """Correlated pixels of very different spreads, none constant."""
    rng = np.random.default_rng(seed)
    d = int(np.prod(shape))
    mix = rng.normal(size=(d, d)) * np.linspace(2, 20, d)[:, None]
    x = np.clip(rng.normal(size=(n, d)) @ mix * 0.4 + 120, 0, 255)
    return x.reshape(n, *shape).astype(dtype)


def flat(x):
    return x.reshape(len(x), -1).astype(np.float64)


def whitened_covariance(x, **how):
    return np.cov(fit(x, "zca", **how).apply(x).astype(np.float64), rowvar=False, bias=True)


@pytest.fixture(params=[1, 7, 10**6])
def chunk_rows(request, monkeypatch):
    """Rows of 12 pixels that fit in one float64 chunk: one, some, all."""
    monkeypatch.setattr(moments, "CHUNK_BYTES", request.param * 12 * 8)
    return request.param


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.usefixtures("chunk_rows")
def test_mean_image_is_the_course_s(dtype):
    x = images(dtype=dtype)
    p = fit(x, "mean_image")
    np.testing.assert_allclose(p.mean, flat(x).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(p.apply(x), flat(x) - flat(x).mean(axis=0), atol=2e-5)
    assert p.apply(x).dtype == np.float32
    assert p.scale is None


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_unit_range_is_one_scale_for_all_pixels(dtype):
    x = images(dtype=dtype)
    x[0].flat[:2] = 0, 255
    np.testing.assert_allclose(fit(x, "unit_range").apply(x), flat(x) / 255, rtol=1e-6, atol=1e-9)
    x = images(dtype=np.float32) / 100 - 3
    y = fit(x, "unit_range").apply(x)
    np.testing.assert_allclose((y.min(), y.max()), (0, 1), atol=1e-6)


@pytest.mark.usefixtures("chunk_rows")
def test_standardize():
    x = images()
    y = fit(x, "standardize").apply(x)
    np.testing.assert_allclose(y, (flat(x) - flat(x).mean(0)) / flat(x).std(0), atol=1e-5)


def test_standardize_does_not_blow_up_what_hardly_varies():
    x = images(dtype=np.float32).reshape(300, -1)
    x[:, 0] = 7  # constant
    x[:, 1] = 7
    x[0, 1] = 7.001
    p = fit(x, "standardize")
    assert p.scale is not None
    np.testing.assert_allclose(p.scale[:2], 100 / flat(x).std(axis=0).max(), rtol=1e-5)
    np.testing.assert_array_equal(p.apply(x)[:, 0], 0)
    assert np.abs(p.apply(x + 1)).max() < 110


@pytest.mark.usefixtures("chunk_rows")
def test_pca_is_the_singular_value_decomposition():
    x = images()
    p = fit(x, "pca", components=5)
    _, _, vt = np.linalg.svd(flat(x) - flat(x).mean(axis=0), full_matrices=False)
    signs = np.sign(vt[np.arange(12), np.abs(vt).argmax(axis=1)])
    np.testing.assert_allclose(p.projection, (vt * signs[:, None])[:5].T, atol=1e-5)
    assert p.output_shape == (5,)
    assert p.features == 12
    covariance = np.cov(p.apply(x), rowvar=False, bias=True)
    eigenvalues = np.linalg.eigvalsh(np.cov(flat(x), rowvar=False, bias=True))[::-1]
    np.testing.assert_allclose(np.diag(covariance), eigenvalues[:5], rtol=1e-4)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * eigenvalues[0]


@pytest.mark.parametrize("variance", [0.3, 0.8, 0.99, 1.0])
def test_pca_keeps_the_variance_asked_for_and_no_component_more(variance):
    x = images()
    k = fit(x, "pca", variance=variance).output_shape[0]
    eigenvalues = np.linalg.eigvalsh(np.cov(flat(x), rowvar=False))[::-1]
    kept = np.cumsum(eigenvalues) / eigenvalues.sum()
    assert kept[k - 1] >= variance - 1e-9
    assert k == 1 or kept[k - 2] < variance


def test_pca_of_fewer_images_than_pixels():
    x = images(n=6)
    assert fit(x, "pca", variance=1.0).output_shape[0] <= 5  # a mean takes one dimension
    assert np.isfinite(fit(x, "pca", components=6).apply(x)).all()


@pytest.mark.usefixtures("chunk_rows")
def test_zca_is_its_formula():
    x = images()
    covariance = np.cov(flat(x), rowvar=False, bias=True)
    eigenvalues, v = np.linalg.eigh(covariance)
    w = v @ np.diag((eigenvalues + 0.1 * eigenvalues.mean()) ** -0.5) @ v.T
    p = fit(x, "zca")
    np.testing.assert_allclose(p.projection, w, atol=1e-6)
    np.testing.assert_allclose(p.apply(x), (flat(x) - flat(x).mean(axis=0)) @ w, atol=1e-4)


@pytest.mark.parametrize("n", [2, 5, 6, 7, 11])
@pytest.mark.parametrize("regularization", [0.1, 1e-3, 10])
@pytest.mark.usefixtures("chunk_rows")
def test_zca_of_few_images_is_its_formula(n, regularization):
    """Of at most half as many images as pixels the images are decomposed, not the covariance."""
    x = images(n=n)
    eigenvalues, v = np.linalg.eigh(np.cov(flat(x), rowvar=False, bias=True))
    gains = (np.maximum(eigenvalues, 0) + regularization * eigenvalues.mean()) ** -0.5
    w = v @ np.diag(gains) @ v.T
    p = fit(x, "zca", regularization=regularization)
    # Rounding of float32, of entries as large as the largest gain.
    np.testing.assert_allclose(p.projection, w, atol=1e-6 * gains.max())


@pytest.mark.parametrize("n", [2, 5, 6, 7, 11])
@pytest.mark.usefixtures("chunk_rows")
def test_pca_of_few_images_is_the_eigenvectors_of_their_covariance(n):
    x = images(n=n)
    k = min(n - 1, 4)
    p = fit(x, "pca", components=k)
    eigenvalues, v = np.linalg.eigh(np.cov(flat(x), rowvar=False, bias=True))
    v = v[:, ::-1][:, :k]
    v *= np.sign(v[np.abs(v).argmax(axis=0), np.arange(k)])
    np.testing.assert_allclose(p.projection, v, atol=1e-5)
    variances = p.apply(x).var(axis=0)
    np.testing.assert_allclose(variances, eigenvalues[::-1][:k], rtol=1e-4)


@pytest.mark.parametrize("how", [{"components": 3}, {"variance": 0.9}])
def test_pca_of_few_images_decomposes_no_matrix_of_all_pixels(how, monkeypatch):
    """60 images of 30,000 pixels: their covariance alone would take 7 GiB."""
    sizes = []
    svd = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda a, **h: sizes.append(a.shape) or svd(a, **h))
    monkeypatch.delattr(np.linalg, "eigh")
    x = np.random.default_rng(0).normal(size=(60, 30_000)).astype(np.float32)
    p = fit(x, "pca", **how)
    assert sizes == [(60, 30_000)]
    assert p.projection is not None
    gram = p.projection.T @ p.projection
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("method", ["pca", "zca"])
def test_a_decomposition_beyond_memory_is_refused_in_one_line(method, monkeypatch):
    how = SETTINGS.get(method, {})
    message = rf"{method}' of 300 images with 12 pixels takes .* GiB.* smaller images, or use 'mean"
    monkeypatch.setattr(preprocessing, "host_memory", lambda: 9000)
    with pytest.raises(ConfigurationError, match=message):
        fit(images(), method, **how)
    monkeypatch.undo()

    def no_memory(*arguments):
        raise MemoryError

    monkeypatch.setattr(np.linalg, "eigh", no_memory)  # as a limit of the process has it
    with pytest.raises(ConfigurationError, match=message):
        fit(images(), method, **how)


def test_zca_whitens_as_the_regularization_goes_to_zero():
    x = images()
    off = [np.abs(whitened_covariance(x, regularization=e) - np.eye(12)).max() for e in (1, 1e-6)]
    assert off[1] < 1e-3 < 0.1 < off[0]
    # Symmetric, so that images stay images: what PCA whitening is not.
    p = fit(x, "zca").projection
    assert p is not None
    np.testing.assert_allclose(p, p.T, atol=1e-7)


def test_zca_survives_pixels_that_are_constant():
    x = images()
    x[:, 0, 0] = 9
    assert np.isfinite(fit(x, "zca").apply(x)).all()


def test_zca_survives_rounding_of_eigenvalues_that_are_zero():
    x = images(n=6)
    assert np.isfinite(fit(x, "zca", regularization=1e-20).apply(x)).all()


def test_none_only_flattens():
    x = images()
    np.testing.assert_array_equal(fit(x, "none").apply(x), flat(x))


def test_small_spread_on_a_large_offset():
    """Sums of squares in float32, or of uncentred values, would lose the variance altogether."""
    x = (images(dtype=np.float32) / 255 + 1e4).reshape(300, -1)
    np.testing.assert_allclose(fit(x, "standardize").apply(x).std(axis=0), 1, rtol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_fitted_on_the_training_images_applies_to_others(method):
    x = images()
    p = fit(x[:200], method, **SETTINGS.get(method, {}))
    np.testing.assert_allclose(p.apply(x)[200:], p.apply(x[200:]), atol=1e-4)
    assert p.is_elementwise == (method in ("none", "unit_range", "mean_image", "standardize"))
    assert p.apply(x).shape == (300, *p.output_shape)
    assert p.apply(x[:0]).shape == (0, *p.output_shape)


@pytest.mark.parametrize("method", METHODS)
def test_survives_a_safetensors_file(tmp_path, method):
    from safetensors.numpy import load_file, save_file

    x = images()
    p = fit(x, method, **SETTINGS.get(method, {}))
    save_file(p.to_arrays() | {"else": np.zeros(3)}, tmp_path / "p.safetensors")
    q = Preprocessing.from_arrays(load_file(tmp_path / "p.safetensors"))
    assert q.method == method
    np.testing.assert_array_equal(q.apply(x), p.apply(x))


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("zca", {"projection": None}, "'zca': expected a float32 mean"),
        ("zca", {"projection": np.zeros((3, 2), np.float32)}, r"float32\[12\], float32\[3, 2\]"),
        ("standardize", {"scale": np.ones(5, np.float32)}, r"float32\[5\]"),
        ("standardize", {"scale": None}, "as the method asks, a scale"),
        ("mean_image", {"scale": np.ones(12, np.float32)}, "'mean_image'"),
        ("mean_image", {"mean": np.zeros(12)}, r"float64\[12\]"),
        ("mean_image", {"mean": np.zeros((3, 4), np.float32)}, r"float32\[3, 4\]"),
        ("mean_image", {"mean": None}, "lacks mean"),
        ("mean_image", {"method": None}, "lacks method"),
    ],
)
def test_saved_arrays_that_do_not_fit_together(method, change, message):
    arrays = fit(images(), method).to_arrays() | change
    with pytest.raises(DataError, match=message):
        Preprocessing.from_arrays({k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    ("method", "how", "message"),
    [
        ("zac", {}, "unknown preprocessing 'zac': did you mean 'zca'"),
        ("pca", {}, "got neither"),
        ("pca", {"components": 2, "variance": 0.5}, "got both"),
        ("pca", {"components": 0}, r"in 1\.\.12"),
        ("pca", {"components": 13}, r"in 1\.\.12"),
        ("pca", {"variance": 99.0}, "For 99 % give 0.99"),
        ("pca", {"variance": 0.0}, r"in \(0, 1\]"),
        ("zca", {"components": 3}, "belong to 'pca', got them with 'zca'"),
        ("zca", {"regularization": 0.0}, "from 1e-30 to 1e30, got 0.0"),
        ("zca", {"regularization": float("nan")}, "expected a finite number, got nan"),
    ],
)
def test_settings_that_cannot_be(method, how, message):
    with pytest.raises(ConfigurationError, match=message):
        fit(images(), method, **how)


@pytest.mark.parametrize("method", METHODS[1:])
def test_one_image_is_too_few(method):
    with pytest.raises(DataError, match="at least 2 training images to fit on, got 1"):
        fit(images(n=1), method, **SETTINGS.get(method, {}))


@pytest.mark.parametrize("method", ["unit_range", "standardize", "pca", "zca"])
def test_images_that_are_all_equal(method):
    with pytest.raises(DataError, match="all training images are equal"):
        fit(np.full((20, 12), 3, np.uint8), method, **SETTINGS.get(method, {}))


def test_other_images_than_those_fitted_on():
    with pytest.raises(DataError, match=r"fitted on 12 pixels an image, got images \[3, 3\] of 9"):
        fit(images(), "mean_image").apply(np.zeros((2, 3, 3), np.uint8))


def test_one_image_without_its_axis():
    with pytest.raises(DataError, match=r"image\[None\]"):
        fit(images(), "mean_image").apply(np.zeros(12, np.uint8))
