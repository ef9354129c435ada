import pytest
import torch

import amnesty
from amnesty.errors import CheckpointError, InterruptedRunError
from amnesty.methods import MUNBa
from amnesty.tasks.diffusion import Concept, Denoiser
from amnesty.training import Checkpoints
from tests import tiny, tiny_diffusion
from tests.tasks.diffusion.running import quick
from tests.tiny_diffusion import THREE, Pictures, picture, prompts, task


class TestSaving:
    METHOD = MUNBa(at_least=4, epochs=1, rounds=1, batch_size=4, forget_batch_size=3, optimizer="adam")

    def sitting(self, folder, last, made, draws=False):
        wanted, steps = made(), []
        if draws:  # as whoever looks at the original before
            wanted.drawer(steps=2)([prompts("classes")[1]], [0])
        saved = Checkpoints(folder, minutes=None, resume=True, stop=lambda: len(steps) >= last, tell=str)
        return amnesty.unlearn(
            wanted, self.METHOD, seed=1, checkpoints=saved, progress=lambda *_: steps.append(1)
        ).model

    @pytest.mark.parametrize(
        "options",
        [
            {"forget": Concept([0, 1], 2, Pictures(6, side=8, channels=1)), "retain": Pictures(4, [2, 3], 8, 1)},
            {"lora": 2, "retain": [2, 3], "drawing": amnesty.Drawing(per_prompt=2, steps=2)},
        ],
    )
    def test_resumed_it_ends_in_the_same_bits(self, tmp_path, options):
        def made():
            return task(name="classes", **options)

        whole = amnesty.unlearn(made(), self.METHOD, seed=1).model
        with pytest.raises(InterruptedRunError):
            self.sitting(tmp_path, 2, made)
        assert tiny.same(tiny.weights(self.sitting(tmp_path, 1000, made, draws=True)), tiny.weights(whole))

    @pytest.mark.parametrize(
        "options",
        [
            {"eta": 2.0},
            {"prompt_drop": 0.2},
            {"forget": Concept(0, 2, Pictures(6, side=8, channels=1))},
        ],
    )
    def test_of_another_request_nothing_is_taken_up(self, tmp_path, options):
        with pytest.raises(InterruptedRunError):
            self.sitting(tmp_path, 2, lambda: task(name="classes"))
        with pytest.raises(CheckpointError, match="another run"):
            self.sitting(tmp_path, 2, lambda: task(name="classes", **options))

    def test_other_words_are_another_request(self, tmp_path):
        def made(encoder):
            return lambda: task({**tiny_diffusion.pixels(), "text_encoder": encoder}, "pixels")

        with pytest.raises(InterruptedRunError):
            self.sitting(tmp_path, 2, made(tiny_diffusion.clip().text_model))
        with pytest.raises(CheckpointError, match="another run"):
            self.sitting(tmp_path, 2, made(tiny_diffusion.clip(1).text_model))


class TestThePipeline:
    @pytest.mark.parametrize("name", ["Stable Diffusion", "DiT", "PixArt", "Stable Diffusion 3", "SDXL"])
    @pytest.mark.filterwarnings(tiny_diffusion.NUMPY)
    def test_opens_from_its_folder_and_draws_the_same(self, name, tmp_path):
        wanted = task(name=name)
        outcome = amnesty.unlearn(wanted, quick("munba", lr=0.5), seed=0)
        wanted.pipeline_of(outcome.model).save_pretrained(tmp_path)
        without = {"text_encoder_3": None, "tokenizer_3": None} if name == "Stable Diffusion 3" else {}
        opened = tiny_diffusion.quiet(tiny_diffusion.DiffusionPipeline.from_pretrained(tmp_path, **without))
        asked = prompts(name)[:2]

        assert type(opened) is type(wanted.parts_of_generator.given)
        assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".ckpt")]
        found = task(opened, name).drawer(steps=2)(asked, [0, 1])
        torch.testing.assert_close(found, wanted.drawer(outcome.model, steps=2)(asked, [0, 1]), rtol=0, atol=1e-5)
        before = wanted.drawer(steps=2)(asked, [0, 1])
        assert (found - before).abs().max() > 1e-4

    def test_has_all_other_parts_of_the_one_given(self):
        pipe = tiny_diffusion.stable()
        wanted = task(pipe)
        made = wanted.pipeline_of(amnesty.unlearn(wanted, quick("munba", lr=0.5), seed=0).model)

        assert {name: part is pipe.components[name] for name, part in made.components.items() if part} == {
            **dict.fromkeys(("vae", "text_encoder", "tokenizer", "scheduler"), True),
            "unet": False,
        }
        drawn = wanted.drawer(Denoiser(made.unet, wanted.kind), steps=4, guidance=5.0)([THREE], [0])
        theirs = made(
            THREE,
            generator=torch.Generator().manual_seed(0),
            num_inference_steps=4,
            guidance_scale=5.0,
            output_type="pt",
        ).images
        torch.testing.assert_close(drawn, theirs, rtol=0, atol=1e-4)
        assert (picture(made, [THREE]) - picture(pipe, [THREE])).abs().max() > 1e-3
