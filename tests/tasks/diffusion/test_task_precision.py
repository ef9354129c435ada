import pytest
import torch

import amnesty
from tests import tiny, tiny_diffusion
from tests.tasks.diffusion.running import moved, quick
from tests.tiny_diffusion import THREE, task


class TestMemoryAndPrecision:
    @pytest.mark.parametrize("name", ["Stable Diffusion", "classes", "DiT", "PixArt", "Stable Diffusion 3"])
    def test_checkpointing_gives_the_same_gradients(self, name):
        plain, saving = (task(name=name, gradient_checkpointing=on) for on in (False, True))
        assert saving.model.backbone.is_gradient_checkpointing and not plain.model.backbone.is_gradient_checkpointing
        for part in ("forget", "retain"):
            found = []
            for wanted in (plain, saving):
                role = wanted.wished("auto") if part == "forget" else wanted.preserved()
                batch = wanted.parts[part][[0, 1, 2]]
                value = role.loss(wanted.model, batch, torch.Generator().manual_seed(0))
                moving = [p for p in wanted.model.parameters() if p.requires_grad]
                found.append((value, *torch.autograd.grad(value, moving)))
            for one, other in zip(*found, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("munba", {"lora": 2, "teacher": "current"}),
            ("lur", {}),
            ("esd", {}),
        ],
    )
    def test_checkpointing_goes_with_every_player(self, name, options):
        found = [
            amnesty.unlearn(task(gradient_checkpointing=on, **options), quick(name, optimizer="sgd"), seed=0).model
            for on in (False, True)
        ]
        for one, other in zip(*(tiny.weights(model).values() for model in found), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("options", [{}, {"lora": 2, "gradient_checkpointing": True}])
    def test_half_precision_while_training(self, options):
        wanted = task(**options)
        outcome = amnesty.unlearn(wanted, quick("munba", lr=0.1), seed=0, precision="bfloat16")
        full = amnesty.unlearn(wanted, quick("munba", lr=0.1), seed=0)

        assert moved(wanted, outcome) and {p.dtype for p in outcome.model.parameters()} == {torch.float32}
        assert outcome.history[0]["retain_loss"] == pytest.approx(full.history[0]["retain_loss"], rel=0.02)
        assert outcome.history[0]["retain_loss"] != full.history[0]["retain_loss"]

    def test_generator_of_halves(self):
        wanted = task(tiny_diffusion.stable().to(torch.bfloat16))
        outcome = amnesty.unlearn(wanted, quick("munba", lr=0.5), seed=0)
        made = wanted.pipeline_of(outcome.model)
        assert moved(wanted, outcome) and made.unet.dtype is torch.bfloat16
        assert picture_of_halves(made).isfinite().all()


def picture_of_halves(pipe):
    random = torch.Generator().manual_seed(0)
    return pipe(THREE, generator=random, num_inference_steps=2, output_type="pt").images
