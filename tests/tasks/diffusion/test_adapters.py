import json
import re
import sys

import pytest
import torch
from safetensors.torch import load_file

import amnesty
from amnesty.errors import InvalidInputError, MissingExtraError, ModelError
from amnesty.methods import LUR, MUNBa
from amnesty.tasks.diffusion import Denoiser
from amnesty.tasks.diffusion.adapters import load_adapters
from tests import tiny, tiny_diffusion
from tests.tiny_diffusion import GENERATORS, THREE, picture, task

QUICK = MUNBa(at_least=3, rounds=1, lr=0.3)
WEIGHTS, CONFIG = "pytorch_lora_weights.safetensors", "adapter_config.json"


def answer(model, wanted):
    question = wanted.probe
    with torch.no_grad():
        return model.predict(question.images, question.times, question.told)


@pytest.fixture(scope="module")
def unlearned():
    """A task with adapters, and its model after some steps."""
    wanted = task(lora=2)
    return wanted, amnesty.unlearn(wanted, QUICK, seed=0).model


class TestAdapters:
    @pytest.mark.parametrize("name", GENERATORS)
    def test_begin_as_the_original_and_move_alone(self, name):
        wanted = task(name=name, lora=2)
        wanted.check()
        moving = [key for key, p in wanted.model.named_parameters() if p.requires_grad]

        assert moving and all("lora_" in key for key in moving)
        assert torch.equal(answer(wanted.model, wanted), answer(wanted.original, wanted))
        given = tiny_diffusion.modules(wanted.parts_of_generator.given).values()
        assert not any("lora" in key for part in given for key in part.state_dict())

    def test_stand_where_the_group_is(self):
        wanted = task(train="xattn_kv", lora=2)
        found = {key.split(".lora_")[0] for key, p in wanted.model.named_parameters() if p.requires_grad}
        assert found and all(key.endswith((".attn2.to_k", ".attn2.to_v")) for key in found)

    def test_begin_alike_and_leave_the_generator_of_the_caller(self):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first, second = (task(lora=2).model for _ in range(2))
        assert tiny.same(tiny.weights(first), tiny.weights(second)) and torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("name", ["Stable Diffusion", "PixArt"])
    def test_merged_is_the_adapted_one(self, name):
        wanted = task(name=name, lora={"r": 2, "lora_alpha": 6}, retain_loss="denoise")
        model = amnesty.unlearn(wanted, LUR(epochs=1, trim=0.0, wish="auto", lr=0.3, max_norm=None), seed=0).model
        plain = model.plain()

        assert type(plain) is type(wanted.parts_of_generator.backbone)
        assert plain.state_dict().keys() == wanted.parts_of_generator.backbone.state_dict().keys()
        merged = answer(Denoiser(plain, model.family), wanted)
        torch.testing.assert_close(merged, answer(model, wanted), rtol=1e-4, atol=1e-5)
        assert (merged - answer(wanted.original, wanted)).abs().max() > 5e-4
        assert any("lora" in key for key in model.state_dict())  # it has its own still

    def test_can_be_trained_further_where_all_may_move(self):
        plain = amnesty.unlearn(task(lora=2), QUICK, seed=0).model.plain()
        assert all(p.requires_grad for p in plain.parameters()) and not plain.training


class TestSaved:
    def test_alone_they_open_with_load_lora_weights(self, unlearned, tmp_path):
        wanted, model = unlearned
        model.save_pretrained(tmp_path, merge=False)
        pipe = tiny_diffusion.stable()
        before = picture(pipe, [THREE])
        pipe.load_lora_weights(tmp_path)

        assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]
        found = picture(pipe, [THREE])
        torch.testing.assert_close(found, picture(wanted.pipeline_of(model), [THREE]), rtol=0, atol=1e-4)
        assert (found - before).abs().max() > 0.01
        pipe.unload_lora_weights()
        torch.testing.assert_close(picture(pipe, [THREE]), before)

    @pytest.mark.parametrize("name", ["SDXL", "classes", "Stable Diffusion 3"])
    def test_alone_they_open_in_the_backbone(self, name, tmp_path):
        wanted = task(name=name, lora={"r": 2, "lora_alpha": 7})
        model = amnesty.unlearn(wanted, QUICK, seed=0).model
        model.save_pretrained(tmp_path, merge=False)
        fresh = wanted.pipeline_of(wanted.original)
        backbone = tiny_diffusion.modules(fresh)[wanted.parts_of_generator.name]
        load_adapters(backbone, tmp_path)

        found = answer(Denoiser(backbone, model.family), wanted)
        torch.testing.assert_close(found, answer(model, wanted), rtol=1e-4, atol=1e-5)
        assert all("lora" in key for key in load_file(tmp_path / WEIGHTS))

    def test_merged_they_are_the_backbone(self, unlearned, tmp_path):
        _, model = unlearned
        model.save_pretrained(tmp_path)
        opened = tiny_diffusion.UNet2DConditionModel.from_pretrained(tmp_path)

        assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
        assert tiny.same(tiny.weights(opened), tiny.weights(model.plain()))

    def test_of_a_model_without_any_the_backbone_is_written(self, tmp_path):
        task().model.save_pretrained(tmp_path, merge=False)
        assert (tmp_path / "config.json").exists() and not (tmp_path / WEIGHTS).exists()


class TestBadInput:
    @pytest.fixture
    def folder(self, unlearned, tmp_path):
        unlearned[1].save_pretrained(tmp_path, merge=False)
        return tmp_path

    def test_of_another_model(self, folder):
        with pytest.raises(ModelError, match=f"The adapters in {folder} cannot be loaded"):
            load_adapters(tiny_diffusion.unet(16), folder)

    def test_of_another_kind(self, folder):
        with pytest.raises(ModelError, match="The adapters in"):
            load_adapters(tiny_diffusion.dit(), folder)

    def test_missing(self, tmp_path):
        with pytest.raises(ModelError, match="cannot be loaded: FileNotFoundError"):
            load_adapters(tiny_diffusion.unet(32), tmp_path)

    @pytest.mark.parametrize("damage", ["weights", "configuration", "lacking", "unknown"])
    def test_damaged(self, folder, damage):
        path = folder / (WEIGHTS if damage == "weights" else CONFIG)
        if damage in ("weights", "configuration"):
            path.write_bytes(path.read_bytes()[:-9])
        else:
            config = json.loads(path.read_text())
            config |= {"unknown": {"no_such": 1}, "lacking": {"target_modules": r".*\.attn[12]\.to_k"}}[damage]
            path.write_text(json.dumps(config))
        with pytest.raises(ModelError, match="The adapters in .*"):
            load_adapters(tiny_diffusion.unet(32), folder)

    def test_group_without_linear_layers(self):
        with pytest.raises(InvalidInputError, match="`lora` needs linear layers"):
            task(lora=2, train=re.compile(r"conv_in\."))

    def test_without_peft(self, monkeypatch, folder):
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(MissingExtraError, match=r"LoRA needs the package `peft`.*amnesty\[diffusion\]"):
            task(name="classes", lora=2)
        with pytest.raises(MissingExtraError, match="peft"):
            load_adapters(tiny_diffusion.unet(32), folder)
