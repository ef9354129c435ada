import pytest
import torch
from torch.utils.data import Dataset

import amnesty
from amnesty.methods import ESD
from amnesty.tasks.diffusion import Concept, Drawer
from tests import tiny_diffusion
from tests.tiny_diffusion import FIVE, FOUR, SIX, THREE, Pictures, task

QUICK = {"steps": 3, "way": 4, "lr": 1e-3}


class Unread(Dataset):
    """Images that must not be looked at."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError


class TestESD:
    def test_no_image_is_drawn_encoded_or_read(self, monkeypatch):
        monkeypatch.setattr(Drawer, "latents", None)
        wanted = task(forget=Concept(THREE), retain=[FIVE])
        outcome = amnesty.unlearn(wanted, ESD(**QUICK), seed=0)
        assert len(outcome.history) == 3 and outcome.history[0]["forget_loss"] > 0

    def test_steps_and_batches(self, monkeypatch):
        asked, before = [], Drawer.walk

        def walk(self, rows, generators, until=None):
            asked.append((len(rows), self.steps, self.guidance, until))
            return before(self, rows, generators, until)

        monkeypatch.setattr(Drawer, "walk", walk)
        method = ESD(steps=3, epochs=2, batch_size=2, way=5, guidance=2.5)
        outcome = amnesty.unlearn(task(name="pixels"), method, seed=0)

        assert len(outcome.history) == len(asked) == 6
        assert all(of[:3] == (2, 5, 2.5) and 0 <= of[3] < 5 for of in asked)

    def test_concepts_take_turns(self, monkeypatch):
        asked, before = [], Drawer.walk
        monkeypatch.setattr(
            Drawer, "walk", lambda self, rows, *rest: asked.extend(rows.tolist()) or before(self, rows, *rest)
        )
        wanted = task(name="pixels", forget={"a": Concept(THREE), "b": Concept([FOUR, FIVE])}, retain=[SIX])
        amnesty.unlearn(wanted, ESD(steps=8, batch_size=2, way=2), seed=0)
        rows = wanted.process.conditions.rows([THREE, FOUR, FIVE])

        assert asked.count(rows[0]) == 8 and asked.count(rows[1]) + asked.count(rows[2]) == 8

    @pytest.mark.parametrize("name", ["classes", "DiT", "PixArt", "Stable Diffusion 3"])
    @pytest.mark.filterwarnings(tiny_diffusion.NUMPY)
    def test_of_every_kind(self, name):
        wanted = task(name=name)
        outcome = amnesty.unlearn(wanted, ESD(**QUICK), seed=0)
        assert outcome.history[-1]["forget_loss"] < float("inf")
        before = dict(wanted.model.named_parameters())
        assert any(not torch.equal(p, before[n]) for n, p in outcome.model.named_parameters())

    def test_the_concept_is_led_away(self):
        wanted = task(name="classes")
        outcome = amnesty.unlearn(wanted, ESD(steps=25, batch_size=4, way=2, lr=1e-2), seed=0)
        question = wanted.probe
        with torch.no_grad():
            before, after = (
                m.predict(question.images, question.times, question.told) for m in (wanted.model, outcome.model)
            )
            none = wanted.model.predict(question.images, question.times, {"labels": torch.tensor([4])})
        wish = none - (before - none)
        assert (after - wish).square().mean() < 0.7 * (before - wish).square().mean()

    def test_strength_matters(self):
        wanted = task(name="classes")
        losses = [
            amnesty.unlearn(wanted, ESD(**QUICK, eta=eta), seed=0).history[0]["forget_loss"]
            for eta in (0.0, 1.0, 3.0)
        ]
        # n - eta (c - n) lies (1 + eta) (c - n) from c.
        assert [loss / losses[0] for loss in losses] == pytest.approx([1, 4, 16], rel=1e-3)

    def test_images_there_are_are_no_matter(self):
        found = [
            amnesty.unlearn(task(name="pixels", forget=Concept(THREE, FOUR, images)), ESD(**QUICK), seed=0).history
            for images in (Pictures(2, side=8, channels=1), Pictures(5, side=8, channels=1, seed=3))
        ]
        assert found[0] == found[1]
