import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from amnesty.errors import ModelError
from amnesty.tasks.diffusion.noising import PREDICTIONS, Noising, noising_of
from tests import tiny_diffusion

pytestmark = pytest.mark.filterwarnings(tiny_diffusion.NUMPY)

SAMPLERS = (DDPMScheduler, DDIMScheduler, PNDMScheduler, LMSDiscreteScheduler, DPMSolverMultistepScheduler)
SCHEDULES = {
    "Stable Diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "linear": {"beta_schedule": "linear"},
    "given": {"trained_betas": [1e-4 * (k + 1) for k in range(50)], "num_train_timesteps": 50},
}


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


IMAGES, NOISE, TIMES = drawn(5, 2, 3, 4), drawn(5, 2, 3, 4, seed=1), torch.tensor([0, 1, 20, 30, 49])


class TestDiffusion:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_mixes_as_the_training_scheduler_whatever_sampler_is_given(self, sampler, schedule):
        theirs = DDPMScheduler(**SCHEDULES[schedule])
        ours = noising_of(sampler(**SCHEDULES[schedule]))

        torch.testing.assert_close(ours.mixed(IMAGES, NOISE, TIMES), theirs.add_noise(IMAGES, NOISE, TIMES))
        assert ours.prediction == "epsilon" and ours.target(IMAGES, NOISE, TIMES) is NOISE

    def test_velocity(self):
        theirs = DDPMScheduler(prediction_type="v_prediction")
        ours = noising_of(EulerDiscreteScheduler(prediction_type="v_prediction"))

        torch.testing.assert_close(ours.target(IMAGES, NOISE, TIMES), theirs.get_velocity(IMAGES, NOISE, TIMES))

    def test_image(self):
        assert noising_of(DDPMScheduler(prediction_type="sample")).target(IMAGES, NOISE, TIMES) is IMAGES

    def test_zero_terminal_noise_ratio(self):
        found = noising_of(DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"))

        assert found.alphas[-1] == 0
        torch.testing.assert_close(found.target(IMAGES, NOISE, torch.full((5,), 999)), -IMAGES)

    def test_times_are_those_of_the_schedule_each_alike(self):
        found = noising_of(DDPMScheduler(num_train_timesteps=10)).times(20_000, torch.Generator().manual_seed(0))

        assert found.dtype is torch.int64
        assert found.bincount() / 20_000 == pytest.approx(torch.full((10,), 0.1).numpy(), abs=0.01)

    def test_a_sampler_that_has_run_is_the_same(self):
        used = EulerDiscreteScheduler(beta_start=1e-3)
        used.alphas_cumprod.zero_()  # some change theirs

        assert torch.equal(noising_of(used).alphas, DDPMScheduler(beta_start=1e-3).alphas_cumprod)


class TestFlow:
    def test_goes_straight_from_image_to_noise(self):
        ours, times = noising_of(FlowMatchEulerDiscreteScheduler()), torch.tensor([0.0, 250.0, 500.0, 900.0, 1000.0])
        mixed, slope = ours.mixed(IMAGES, NOISE, times), ours.target(IMAGES, NOISE, times)
        share = (times / 1000).view(-1, 1, 1, 1)

        torch.testing.assert_close(mixed, (1 - share) * IMAGES + share * NOISE)
        torch.testing.assert_close(slope, NOISE - IMAGES)
        torch.testing.assert_close(mixed + (1 - share) * slope, NOISE)

    def test_mixes_as_the_scheduler(self):
        theirs = FlowMatchEulerDiscreteScheduler(shift=3.0)
        times = theirs.timesteps[[0, 10, 500, 700, 999]]
        found = noising_of(theirs).mixed(IMAGES, NOISE, times)

        torch.testing.assert_close(found, theirs.scale_noise(IMAGES, times, NOISE))

    @pytest.mark.parametrize(
        "scheduler",
        [
            FlowMatchEulerDiscreteScheduler(shift=3.0),
            UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        ],
    )
    def test_times_are_logit_normal_and_shifted_towards_noise(self, scheduler):
        ours = noising_of(scheduler)
        share = ours.times(20_000, torch.Generator().manual_seed(0)) / 1000
        before = share / (3 - 2 * share)

        assert ours.prediction == "flow" and share.min() > 0 and share.max() < 1
        assert before.logit().mean().item() == pytest.approx(0, abs=0.02)
        assert before.logit().std().item() == pytest.approx(1, abs=0.02)


def asked_for_noise(noising, mixed, answer, times):
    """What an answer says of the noise."""
    kept, added = noising._shares(times, mixed)
    if noising.prediction == "epsilon":
        return answer
    if noising.prediction == "v_prediction":
        return kept * answer + added * mixed
    return mixed + (1 - added) * answer if noising.prediction == "flow" else (mixed - kept * answer) / added


class TestAnswers:
    @pytest.mark.parametrize("prediction", PREDICTIONS)
    def test_each_kind_says_the_same_of_the_noise(self, prediction):
        ours, times = self.noising(prediction)
        target = ours.target(IMAGES.double(), NOISE.double(), times)
        mixed = ours.mixed(IMAGES.double(), NOISE.double(), times)

        torch.testing.assert_close(asked_for_noise(ours, mixed, target, times), NOISE.double(), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("prediction", PREDICTIONS)
    def test_a_mixture_of_answers_whose_weights_sum_to_one_is_that_mixture_of_noises(self, prediction):
        ours, times = self.noising(prediction)
        mixed, first, second = (drawn(5, 2, 3, 4, seed=k).double() for k in (2, 3, 4))
        said = [asked_for_noise(ours, mixed, answer, times) for answer in (first, second, 2 * first - second)]

        torch.testing.assert_close(said[2], 2 * said[0] - said[1], rtol=0, atol=1e-6)

    @staticmethod
    def noising(prediction):
        if prediction == "flow":
            return noising_of(FlowMatchEulerDiscreteScheduler()), 20.0 * (TIMES + 1)
        ours = noising_of(DDPMScheduler(**SCHEDULES["given"], prediction_type=prediction))
        return Noising(prediction, ours.alphas.double()), TIMES


class TestBadInput:
    @pytest.mark.parametrize(
        ("scheduler", "said"),
        [
            (DDIMScheduler(rescale_betas_zero_snr=True), "tells a model that predicts noise .* nothing"),
            (DDIMScheduler(prediction_type="noise"), "must be one of epsilon, v_prediction, sample, found 'noise'"),
            (EDMEulerScheduler(), "Nothing is known of the noise of EDMEulerScheduler"),
            (CMStochasticIterativeScheduler(), "Nothing is known of the noise of CMStochasticIterativeScheduler"),
            (torch.optim.SGD, "must be one of diffusers"),
        ],
    )
    def test_schedulers(self, scheduler, said):
        with pytest.raises(ModelError, match=said):
            noising_of(scheduler)

    @pytest.mark.parametrize(
        ("name", "scheduler", "said"),
        [
            (
                "DiT",
                FlowMatchEulerDiscreteScheduler(),
                "needs a scheduler of diffusion, such as DDIM, found FlowMatch",
            ),
            ("PixArt", FlowMatchEulerDiscreteScheduler(), "needs a scheduler of diffusion"),
            ("Stable Diffusion 3", DDIMScheduler(), "needs a scheduler of flow matching"),
        ],
    )
    def test_that_do_not_fit_the_model(self, name, scheduler, said):
        pipe = tiny_diffusion.GENERATORS[name]()
        pipe.scheduler = scheduler
        with pytest.raises(ModelError, match=said):
            tiny_diffusion.task(pipe, name)
