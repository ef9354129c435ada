"""Methods for image generators keep the promises of all methods."""

import pytest
import torch

import amnesty
from amnesty.errors import InterruptedRunError, InvalidInputError
from amnesty.methods import METHODS
from amnesty.testing import ContractError, check_method
from amnesty.training import Checkpoints
from tests import tiny, tiny_diffusion

GENERATORS = [name for name, method in METHODS.items() if "generator" in method.about.needs]
QUICK = {"esd": {"steps": 4, "way": 3, "lr": 1e-3}, "uce": {}}


def method(name, **settings):
    return METHODS[name](**QUICK[name], **settings)


def run(name, wanted, **options):
    return amnesty.unlearn(wanted, method(name), seed=1, **options)


@pytest.mark.parametrize("name", GENERATORS)
class TestPromises:
    def test_they_ask_for_a_generator(self, name):
        with pytest.raises(
            ContractError, match="it refuses everything: .* unlearns image generators only; this is a C"
        ):
            check_method(method(name), promises=["it changes a copy"])

    def test_other_tasks_that_are_no_classifiers_are_refused(self, name):
        clip = tiny_diffusion.clip()
        other = amnesty.TextEncoder(
            clip.text_model, tiny_diffusion.tiny_clip.tokenizer(), forget={"three": "four"}, retain=["five"]
        )
        with pytest.raises(InvalidInputError, match="image generators only; this is a TextEncoder task"):
            run(name, other)

    def test_one_seed_one_result_in_a_copy(self, name):
        wanted = tiny_diffusion.task(name="pixels")
        before = tiny.weights(wanted.model)
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first, second = (tiny.weights(run(name, wanted).model) for _ in range(2))

        assert tiny.same(first, second) and not tiny.same(first, before)
        assert tiny.same(before, tiny.weights(wanted.model)) and torch.equal(state, torch.get_rng_state())

    def test_frozen_parameters_and_masks_hold(self, name):
        wanted = tiny_diffusion.task(name="pixels", train="xattn_kv")
        moving = {n: p for n, p in wanted.model.named_parameters() if p.requires_grad}
        draw = torch.Generator().manual_seed(3)
        masks = {n: torch.rand(p.shape, generator=draw) < 0.5 for n, p in moving.items()}
        after = dict(run(name, wanted, masks=masks).model.named_parameters())

        for n, p in wanted.model.named_parameters():
            held = ~masks[n] if n in masks else torch.ones_like(p, dtype=torch.bool)
            assert torch.equal(p[held], after[n][held])
        assert any(not torch.equal(p, after[n]) for n, p in moving.items())

    def test_every_step_is_told(self, name):
        told = []
        outcome = run(name, tiny_diffusion.task(name="pixels"), progress=lambda *at: told.append(at))
        assert [record for record, _ in told] == outcome.history and told[-1][1] == len(told)

    def test_it_resumes_to_the_same_bits(self, name, tmp_path):
        def sitting(last):
            steps = []
            saved = Checkpoints(tmp_path, minutes=None, resume=True, stop=lambda: len(steps) >= last, tell=str)
            wanted = tiny_diffusion.task(name="pixels")
            return run(name, wanted, checkpoints=saved, progress=lambda *_: steps.append(1))

        whole = run(name, tiny_diffusion.task(name="pixels"))
        try:
            sitting(2)
        except InterruptedRunError:
            assert name != "uce"  # of one step
        found = sitting(1000)
        assert tiny.same(tiny.weights(found.model), tiny.weights(whole.model)) and found.history == whole.history


def test_there_are_some():
    assert set(GENERATORS) == set(QUICK)
