import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)

from amnesty.errors import InvalidInputError, ModelError
from amnesty.tasks.diffusion.sampling import noiseless
from tests import tiny, tiny_diffusion
from tests.tiny_diffusion import FOUR, GENERATORS, STEPS, THREE, prompts, task

pytestmark = pytest.mark.filterwarnings(tiny_diffusion.NUMPY)

SEEDS = (5, 0, 3)

SAMPLERS = {
    "DDIM": lambda: DDIMScheduler(clip_sample=False, steps_offset=1),
    "DDIM, velocity": lambda: DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
    "DDPM": lambda: DDPMScheduler(clip_sample=False),
    "Euler": EulerDiscreteScheduler,
    "Euler, ancestral": lambda: EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
    "DPM++": lambda: DPMSolverMultistepScheduler(use_karras_sigmas=True),
    "DPM++, with noise": lambda: DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
    "Heun": HeunDiscreteScheduler,
    "PNDM": lambda: PNDMScheduler(skip_prk_steps=True),
}


def generators(seeds=SEEDS):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def by_pipeline(pipe, name, asked, guidance):
    """What the pipeline itself draws."""
    further = {"PixArt": {"clean_caption": False, "use_resolution_binning": False}}.get(name, {})
    if name == "DiT":
        found = pipe(asked, guidance, generators(), STEPS, output_type="np").images
        return torch.from_numpy(found).permute(0, 3, 1, 2)
    return pipe(
        asked,
        generator=generators(),
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        output_type="pt",
        **further,
    ).images


class TestAsThePipeline:
    @pytest.mark.parametrize("guidance", [1.0, 4.0])
    @pytest.mark.parametrize("name", ["Stable Diffusion", "SDXL", "DiT", "PixArt", "Stable Diffusion 3"])
    def test_of_every_kind(self, name, guidance):
        pipe, asked = GENERATORS[name](), prompts(name)[:3]
        found = task(pipe, name).drawer(steps=STEPS, guidance=guidance)(asked, SEEDS)

        torch.testing.assert_close(found, by_pipeline(pipe, name, asked, guidance), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_with_every_sampler(self, sampler):
        pipe, asked = tiny_diffusion.stable(), [THREE, FOUR, THREE]
        pipe.scheduler = SAMPLERS[sampler]()
        found = task(pipe).drawer(steps=STEPS, guidance=3.0)(asked, SEEDS)

        torch.testing.assert_close(found, by_pipeline(pipe, "", asked, 3.0), rtol=0, atol=1e-4)

    def test_where_times_depend_on_the_size(self):
        pipe, asked = tiny_diffusion.sd3_pipeline(), [THREE, FOUR, THREE]
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        found = task(pipe, "Stable Diffusion 3").drawer(steps=STEPS, guidance=1.0)(asked, SEEDS)

        torch.testing.assert_close(found, by_pipeline(pipe, "", asked, 1.0), rtol=0, atol=1e-4)

    def test_where_the_autoencoder_knows_means(self):
        pipe, asked = tiny_diffusion.xl(), [THREE, FOUR, THREE]
        pipe.vae = tiny_diffusion.autoencoder(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[0.5, 1.0, 1.5, 2.0])
        wanted = task(pipe, "SDXL")

        found = wanted.drawer(steps=STEPS, guidance=1.0)(asked, SEEDS)
        torch.testing.assert_close(found, by_pipeline(pipe, "", asked, 1.0), rtol=0, atol=1e-4)

    def test_guidance_of_the_kind_where_none_is_given(self):
        assert {name: task(make(), name).drawer().guidance for name, make in GENERATORS.items()} == {
            "Stable Diffusion": 7.5,
            "SDXL": 5.0,
            "classes": 1.5,
            "DiT": 4.0,
            "PixArt": 4.5,
            "Stable Diffusion 3": 7.0,
            "pixels": 7.5,
        }


class TestOneSeedOneImage:
    @pytest.mark.parametrize("sampler", ["DDIM", "Euler, ancestral", "DPM++, with noise"])
    def test_whatever_is_drawn_beside_it(self, sampler):
        pipe = tiny_diffusion.stable()
        pipe.scheduler = SAMPLERS[sampler]()
        wanted = task(pipe)
        asked, seeds = [THREE, FOUR, THREE], [3, 3, 1]
        together = wanted.drawer(steps=STEPS)(asked, seeds)

        found = wanted.drawer(steps=STEPS, batch_size=2)(asked, seeds)
        torch.testing.assert_close(found, together, rtol=0, atol=1e-5)
        alone = wanted.drawer(steps=STEPS)([THREE], [1])
        torch.testing.assert_close(alone[0], together[2], rtol=0, atol=1e-5)
        assert (together[0] - together[2]).abs().max() > 0.01

    def test_leaves_everything_as_it_was(self):
        wanted = task()
        wanted.model.train()
        state, before = torch.get_rng_state(), wanted.parts_of_generator.scheduler
        wanted.drawer(wanted.model, steps=3)([THREE], [0])

        assert torch.equal(torch.get_rng_state(), state) and wanted.model.training
        assert before.num_inference_steps is None  # that of the caller was never told to begin

    def test_range_and_place(self):
        found = task(name="classes").drawer(steps=3)([0, 3], [0, 1])

        assert found.shape == (2, 1, 8, 8) and found.dtype is torch.float32 and found.device.type == "cpu"
        assert found.min() >= 0 and found.max() <= 1


class TestDescribe:
    def test_knows_the_weights_and_the_way(self):
        wanted, other = task(), task(tiny_diffusion.stable(seed=1))
        drawer = wanted.drawer(steps=3)
        same = wanted.drawer(wanted.model, steps=3)

        assert drawer.describe == same.describe
        assert drawer.describe["size"] == [16, 16] and drawer.describe["steps"] == 3
        for changed in (other.drawer(steps=3), wanted.drawer(steps=4), wanted.drawer(steps=3, guidance=2.0)):
            assert changed.describe != drawer.describe

    @pytest.mark.parametrize("part", ["vae", "text_encoder", "scheduler"])
    def test_knows_the_other_parts(self, part):
        pipe, other = tiny_diffusion.stable(), tiny_diffusion.stable()
        other.scheduler = DDIMScheduler(beta_end=0.01)
        another = {"vae": tiny_diffusion.autoencoder(1), "text_encoder": tiny_diffusion.clip(1).text_model}
        setattr(pipe, part, another.get(part, other.scheduler))

        assert task(pipe).drawer().describe != task().drawer().describe


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"steps": 0}, "`steps` must be a whole number of at least 1, found 0"),
            ({"steps": True}, "`steps` must be"),
            ({"batch_size": 0}, "`batch_size` must be"),
            ({"guidance": -1.0}, "`guidance` must be at least 0"),
            ({"guidance": float("nan")}, "`guidance` must be"),
            ({"guidance": float("inf")}, "`guidance` must be"),
        ],
    )
    def test_settings(self, options, said):
        with pytest.raises(InvalidInputError, match=said):
            task().drawer(**options)

    def test_too_many_steps(self):
        with pytest.raises(ModelError, match="DDIMScheduler cannot make 2000 steps"):
            task().drawer(steps=2000)([THREE], [0])

    @pytest.mark.parametrize(("asked", "seeds"), [([THREE], [0, 1]), ([], [])])
    def test_not_as_many_seeds_as_prompts(self, asked, seeds):
        with pytest.raises(InvalidInputError, match="a prompt and a seed for each image"):
            task().drawer()(asked, seeds)

    @pytest.mark.parametrize(
        ("name", "bad"),
        [("Stable Diffusion", "the " * 20), ("Stable Diffusion", 3), ("classes", 4), ("classes", "a")],
    )
    def test_prompt_that_cannot_be_read_spoils_no_others(self, name, bad):
        wanted = task(name=name)
        good = prompts(name)[0]
        with pytest.raises(InvalidInputError):
            wanted.drawer(steps=2)([good, bad], [0, 1])

        assert wanted.drawer(steps=2)([good], [0]).isfinite().all()


class TestNoiseless:
    def test_samplers_of_other_scales_are_not_clipped(self):
        assert not noiseless(DPMSolverMultistepScheduler()).config.clip_sample
        assert noiseless(DDPMScheduler(clip_sample=True)).config.clip_sample
        assert type(noiseless(PNDMScheduler())) is DDIMScheduler

    def test_keeps_the_noise_that_the_model_was_trained_on(self):
        found = noiseless(EulerDiscreteScheduler(beta_start=1e-3, prediction_type="v_prediction"))

        assert torch.equal(found.alphas_cumprod, DDIMScheduler(beta_start=1e-3).alphas_cumprod)
        assert found.config.prediction_type == "v_prediction"

    def test_of_a_flow_it_is_the_sampler_itself(self):
        sampler = FlowMatchEulerDiscreteScheduler()
        assert noiseless(sampler) is sampler


def test_weights_of_the_caller_stay():
    pipe = tiny_diffusion.stable()
    before = {name: tiny.weights(part) for name, part in tiny_diffusion.modules(pipe).items()}
    task(pipe).drawer(steps=3)([THREE], [0])

    assert all(tiny.same(before[name], tiny.weights(part)) for name, part in tiny_diffusion.modules(pipe).items())
