"""The CLIP score of a model in a folder, against its own cosines."""

import pytest
import torch
from torch.nn import functional as F

from amnesty.errors import DataError, ModelError
from amnesty.evaluation import ClipScorer
from amnesty.evaluation.clip_score import clip_score
from tests import tiny_clip as toy


@pytest.fixture(scope="module")
def scorer():
    return ClipScorer(toy.untrained(0), toy.processor(), "tiny")


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (70, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def slow(scorer, images, text):
    """The cosines that the model itself gives: its logits over its scale, one image at a time."""
    found = []
    for image in images:
        inputs = scorer.processor(text=[text], images=image, return_tensors="pt")
        with torch.no_grad():
            logits = scorer.model.eval()(**inputs).logits_per_image
        found.append(max(0.0, 100 * float(logits) / float(scorer.model.logit_scale.detach().exp())))
    return torch.tensor(found)


@pytest.mark.parametrize("text", ["a photo of the digit three", "red"])
def test_is_the_models_own_cosine(scorer, images, text):
    found = scorer(images, text)
    assert found.shape == (70,) and found.dtype == torch.float64
    torch.testing.assert_close(found.float(), slow(scorer, images, text), rtol=1e-4, atol=1e-3)


def test_takes_floats_and_grey_images(scorer, images):
    assert torch.equal(scorer(images.float() / 255, "red"), scorer(images, "red"))
    grey = images[:, :1]
    assert torch.equal(scorer(grey, "red"), scorer(grey.expand(-1, 3, -1, -1), "red"))
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        scorer(images.float(), "red")


def test_opposite_directions_score_zero():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    others = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    expected = 100 * F.cosine_similarity(features, others).clamp(min=0)
    torch.testing.assert_close(clip_score(3 * features, others).float(), expected)
    assert clip_score(features, -features).max() == 0 and clip_score(features, features).min() > 99.9999


def test_a_text_too_long_is_cut(scorer, images):
    text = "the digit " * 30
    assert scorer(images[:2], text).isfinite().all()


def test_a_folder_gives_the_same(scorer, images, tmp_path):
    scorer.model.save_pretrained(tmp_path)
    scorer.processor.save_pretrained(tmp_path)
    found = ClipScorer.load(tmp_path)
    assert found.name == str(tmp_path)
    torch.testing.assert_close(found(images, "red"), scorer(images, "red"), rtol=1e-5, atol=1e-5)


def test_folders_that_are_none_are_named(tmp_path):
    with pytest.raises(ModelError, match="cannot be read as a CLIP model"):
        ClipScorer.load(tmp_path)
    toy.untrained(0).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")  # a pickle, for all that is known
    with pytest.raises(ModelError, match="cannot be read as a CLIP model"):
        ClipScorer.load(tmp_path)


def test_other_models_are_named(images):
    with pytest.raises(ModelError, match="mine cannot be asked as a CLIP model"):
        ClipScorer(torch.nn.Linear(2, 2), toy.processor(), "mine")(images, "red")
