"""Distances from real images, against their formulas written out."""

import sys
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from amnesty.errors import DataError, InvalidInputError, MissingExtraError, ModelError
from amnesty.evaluation import realism
from amnesty.evaluation.realism import features_of, frechet_distance, inception, kernel_distance
from tests import vision  # noqa: F401  # torchmetrics looks for torchvision

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")


def features(count, shift=0.0, seed=0, length=6, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(length, length, generator=torch.Generator().manual_seed(9))
    return scale * (torch.randn(count, length, generator=random) @ mix + shift)


def slow_frechet(one, other):
    one, other = one.double().numpy(), other.double().numpy()
    spreads = [np.cov(side, rowvar=False) for side in (one, other)]
    root = sqrtm(spreads[0] @ spreads[1])
    means = one.mean(0) - other.mean(0)
    return float(means @ means + np.trace(spreads[0] + spreads[1] - 2 * root.real))


def slow_kernel(one, other):
    def kernel(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    one, other = one.double().numpy(), other.double().numpy()
    n, m = len(one), len(other)
    same = sum(kernel(one[i], one[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    others = sum(kernel(other[i], other[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return same + others - 2 * sum(kernel(x, y) for x in one for y in other) / (n * m)


class TestFrechet:
    @pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
    def test_is_the_formula(self, scale):
        one, other = features(80, scale=scale), features(50, shift=0.7, seed=1, scale=scale)
        assert frechet_distance(one, other) == pytest.approx(slow_frechet(one, other), rel=1e-7)
        assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-7)

    def test_of_features_far_from_zero_loses_nothing(self):
        one, other = features(80).double() + 300, features(50, seed=1).double() + 300
        assert frechet_distance(one, other) == pytest.approx(slow_frechet(one - 300, other - 300), rel=1e-5)

    def test_with_fewer_images_than_features(self):
        one, other = features(5, length=20), features(4, shift=1.0, seed=1, length=20)
        assert frechet_distance(one, other) == pytest.approx(slow_frechet(one, other), rel=1e-4)

    def test_is_zero_for_the_same_and_never_below(self):
        one = features(200)
        assert 0 <= frechet_distance(one, one) < 1e-9
        assert frechet_distance(one + 2, one) == pytest.approx(4 * 6, rel=1e-6)


class TestKernel:
    def test_is_the_formula(self):
        one, other = features(40), features(40, shift=0.5, seed=1)
        assert kernel_distance(one, other) == pytest.approx(slow_kernel(one, other), rel=1e-9)

    def test_of_unequal_numbers_is_a_mean_of_random_subsets_that_the_seed_fixes(self):
        one, other = features(300, scale=0.3), features(40, shift=5.0, seed=1, scale=0.3)
        before = torch.random.get_rng_state()
        found = kernel_distance(one, other)
        assert torch.equal(before, torch.random.get_rng_state())
        assert found == kernel_distance(one, other) != kernel_distance(one, other, seed=1)
        assert found == pytest.approx(slow_kernel(one, other), rel=0.02)

    def test_is_near_zero_where_both_are_alike_and_may_be_below(self):
        found = [kernel_distance(features(60, seed=k), features(60, seed=100 + k)) for k in range(20)]
        far = kernel_distance(features(60, shift=1.0), features(60, seed=1))
        assert min(found) < 0 < max(found) and abs(np.mean(found)) < 0.3 * far


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(("one", "other"), [((1, 4), (9, 4)), ((9, 4), (9, 5)), ((9,), (9, 4))])
def test_what_cannot_be_compared_is_refused(measure, one, other):
    with pytest.raises(InvalidInputError, match="n and m at least 2"):
        measure(torch.rand(one), torch.rand(other))


class TestFeatures:
    def test_are_the_same_whatever_is_together(self):
        images = torch.randint(256, (150, 1, 4, 4), dtype=torch.uint8)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Dropout())
        found = features_of(network, images.split(50))
        assert found.dtype == torch.float64 and found.shape == (150, 3)
        assert torch.allclose(found, features_of(network, [images]))
        assert torch.allclose(found, network.eval()(images.float() / 255).double())

    def test_of_floats_beyond_the_range_or_of_nothing_are_refused(self):
        with pytest.raises(DataError, match=r"\[0, 1\], found -1 to 1; images in \[-1, 1\] become such by"):
            features_of(nn.Flatten(), [torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)])
        with pytest.raises(InvalidInputError, match="no images"):
            features_of(nn.Flatten(), [])


class TestInception:
    def test_that_cannot_be_fetched_says_what_to_do(self, monkeypatch):
        module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

        def fail(*given, **named):
            raise URLError("no network")

        monkeypatch.setattr(module, "load_state_dict_from_url", fail)
        with pytest.raises(ModelError, match=r"cannot be fetched: URLError: .*no network.*as `features`"):
            inception()

    def test_gets_8_bits_and_three_channels(self):
        class Sees(nn.Module):
            def forward(self, x):
                assert x.dtype == torch.uint8 and x.shape[1] == 3
                return x.flatten(1).float()

        found = features_of(realism._Inception(Sees()), [torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)])
        assert found.tolist() == [[0, 128, 255] * 3]

    @pytest.mark.parametrize("package", ["torchmetrics.image.fid", "torch_fidelity"])
    def test_without_its_packages_names_the_extra(self, monkeypatch, package):
        if package == "torch_fidelity":
            monkeypatch.setattr(realism.importlib.util, "find_spec", lambda name: None)
        else:
            monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=package.partition(".")[0].replace("_", "-")):
            inception()
