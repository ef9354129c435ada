import pytest
import torch
from torch.utils.data import default_collate

from amnesty.errors import ModelError
from amnesty.tasks.diffusion import Denoiser
from amnesty.weights.parts import stages
from tests.tiny_diffusion import GENERATORS, task

ENDS, WEIGHTS = ("norm_out", "out"), ("weight", "bias")


class TestStages:
    @pytest.mark.parametrize("name", GENERATORS)
    def test_have_every_parameter_once(self, name):
        model = task(name=name).model
        found = stages(model, torch.zeros(1))

        assert sorted(key for stage in found for key in stage) == sorted(key for key, _ in model.named_parameters())
        assert all(found) and len(found) > 3

    def test_of_a_unet_go_down_and_up(self):
        found = [{".".join(name.split(".")[1:3]) for name in stage} for stage in stages(task().model, torch.zeros(1))]
        middle = {name for name in found[3] if name.startswith("mid_block.")}
        assert found[0] >= {"conv_in.weight"} and found[-1] == {f"conv_{n}.{w}" for n in ENDS for w in WEIGHTS}
        assert found[1:-1] == [{"down_blocks.0"}, {"down_blocks.1"}, middle, {"up_blocks.0"}, {"up_blocks.1"}]

    def test_of_a_transformer_are_its_blocks(self):
        found = stages(task(name="Stable Diffusion 3").model, torch.zeros(1))
        assert [stage[0].split(".")[2] for stage in found[1:-1]] == ["0", "1"]
        assert {name.split(".")[1] for name in found[-1]} == {"norm_out", "proj_out"}


class TestAnswers:
    def test_a_variance_is_left_out(self):
        wanted = task(name="DiT")
        question = wanted.probe
        with torch.no_grad():
            whole = wanted.model.family.ask(wanted.model.backbone, question.images, question.times, question.told)
            found = wanted.model.predict(question.images, question.times, question.told)

        assert whole.shape[1] == 8 and torch.equal(found, whole[:, :4])
        assert torch.equal(wanted.model(question), found.flatten(1))

    def test_under_autocast_it_is_float32(self):
        wanted = task(name="classes")
        question = wanted.probe
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            assert wanted.model(question).dtype is torch.float32

    def test_question_moves_whole(self):
        question = task().probe.to("meta")
        assert question.images.is_meta and question.times.is_meta and question.told["hidden"].is_meta


class TestPlain:
    def test_shares_nothing_and_is_ready_to_be_used(self):
        wanted = task(train="xattn_kv", gradient_checkpointing=True)
        plain = wanted.model.plain()
        with torch.no_grad():
            for p in plain.parameters():
                p.zero_()

        assert any(p.any() for p in wanted.model.parameters())
        assert all(p.requires_grad for p in plain.parameters()) and not plain.is_gradient_checkpointing


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda self, images, times, told: images.repeat(1, 1, 1, 2), "must answer with finite numbers of the shape"),
        (lambda self, images, times, told: images * torch.nan, "must answer with finite numbers"),
        (lambda self, images, times, told: images @ images[:, :, :3], "The model cannot be asked: RuntimeError"),
    ],
)
def test_a_model_that_does_not_answer_is_refused(monkeypatch, broken, said):
    wanted = task(name="classes")
    monkeypatch.setattr(Denoiser, "predict", broken)
    with pytest.raises(ModelError, match=said):
        wanted.check()


def test_latents_are_read_in_batches():
    data = task(name="classes").parts["retain"]
    latents, captions = data[[0, 3]]
    one = default_collate([data[0], data[3]])
    assert torch.equal(latents, one[0]) and torch.equal(captions, one[1])
