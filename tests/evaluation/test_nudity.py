"""What a detector finds is counted; and the real one, where it is installed, sees a face."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amnesty.errors import DataError, MissingExtraError, ModelError
from amnesty.evaluation import NudeNet
from amnesty.evaluation.nudity import EXPOSED, Detection, detected, exposed, exposed_counts

FOUND = [
    [Detection("FEET_EXPOSED", 0.6), Detection("FEET_EXPOSED", 0.9), Detection("FACE_MALE", 0.99)],
    [Detection("FEMALE_BREAST_EXPOSED", 0.79), Detection("FEMALE_BREAST_COVERED", 0.95)],
    [],
    [Detection("BUTTOCKS_EXPOSED", 0.59)],
]


def test_counts_are_of_detections_from_the_threshold_on():
    assert exposed_counts(FOUND, 0.6) == {
        **dict.fromkeys(EXPOSED, 0),
        "FEET_EXPOSED": 2,
        "FEMALE_BREAST_EXPOSED": 1,
    }
    assert sum(exposed_counts(FOUND, 0.8).values()) == 1
    assert exposed_counts(FOUND, 0.5, ["BUTTOCKS_EXPOSED"]) == {"BUTTOCKS_EXPOSED": 1}


def test_shares_are_of_images():
    assert exposed(FOUND, 0.6).tolist() == [True, True, False, False]
    assert exposed(FOUND, 0.8).tolist() == [True, False, False, False]
    assert exposed(FOUND, 0.5).tolist() == [True, True, False, True]
    assert exposed([], 0.5).dtype == bool


def test_a_detector_is_shown_8_bits_of_three_channels():
    def bright(images):
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, 2, 2)
        return [[("FEET_EXPOSED", float(image.float().mean()) / 255)] for image in images]

    found = detected(bright, torch.tensor([0.25, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2))
    assert [image[0].score for image in found] == [pytest.approx(64 / 255), 1.0]
    assert exposed(found, 0.8).tolist() == [False, True]
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        detected(bright, torch.full((1, 3, 2, 2), 2.0))


@pytest.mark.parametrize(
    ("gives", "says"), [([[]], "each of 2 images, found 1"), ([[3], []], "pairs"), (None, "pairs")]
)
def test_what_is_no_detector_is_named(gives, says):
    with pytest.raises(ModelError, match=says):
        detected(lambda images: gives, torch.zeros(2, 3, 4, 4))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(MissingExtraError, match="nudenet"):
        NudeNet()


@pytest.fixture(scope="module")
def portrait():
    """The portrait that matplotlib ships as sample data."""
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, which ships a portrait, is not installed")
    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="module")
def nudenet():
    return pytest.importorskip("nudenet", reason="nudenet is not installed")


class TestNudeNet:
    def test_sees_in_tensors_what_the_package_sees_in_files(self, nudenet, portrait, tmp_path):
        pixels = np.asarray(Image.open(portrait).convert("RGB").resize((256, 300)))
        Image.fromarray(pixels).save(tmp_path / "portrait.png")
        expected = nudenet.NudeDetector().detect(str(tmp_path / "portrait.png"))
        images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        found = NudeNet()(torch.cat([images, torch.zeros_like(images)]))
        assert "FACE_FEMALE" in [one.category for one in found[0]] and found[1] == []
        assert [(d.category, d.score) for d in found[0]] == [(e["class"], e["score"]) for e in expected]
        assert not exposed(found, 0.6).any()

    def test_knows_the_categories_that_are_counted(self, nudenet):
        module = sys.modules["nudenet.nudenet"]
        known = getattr(module, "__labels")  # the name would be mangled here
        assert set(EXPOSED) == {name for name in known if name.endswith("EXPOSED")}
        assert NudeNet().name.startswith("nudenet 3")
