import re

import pytest
import torch
from torch import nn

from amnesty.errors import InvalidInputError, ModelError, UnknownNameError
from amnesty.seeds import derive
from amnesty.tasks.diffusion.families import family_of, parameters_of
from tests import tiny_diffusion
from tests.tiny_diffusion import GENERATORS, PixArtAlphaPipeline

BACKBONES = {
    name: lambda make=make: tiny_diffusion.modules(make()).get("unet") or make().transformer
    for name, make in GENERATORS.items()
}
pytestmark = pytest.mark.filterwarnings(tiny_diffusion.NUMPY)

TEXT_UNETS = ("Stable Diffusion", "SDXL", "pixels")


def size(backbone, names):
    return sum(backbone.get_parameter(name).numel() for name in names)


@pytest.fixture(scope="module")
def digits():
    """The U-Net of the small digits."""
    return tiny_diffusion.unet(64, derive(0, "unet"), channels=1, blocks=(16, 48), groups=8)


class TestGroups:
    @pytest.mark.parametrize(
        ("group", "count"),
        [("full", 516_641), ("xattn", 43_200), ("xattn_kv", 24_576), ("selfattn", 37_056)],
    )
    def test_counts_of_the_small_digits(self, digits, group, count):
        assert size(digits, parameters_of(digits, group)) == count

    def test_cross_attention_is_the_default(self, digits):
        assert parameters_of(digits, None) == parameters_of(digits, "xattn")

    @pytest.mark.parametrize("name", GENERATORS)
    def test_every_one_names_something_and_full_is_all(self, name):
        backbone = BACKBONES[name]()
        family = family_of(backbone)
        every = [key for key, _ in backbone.named_parameters()]
        found = {group: parameters_of(backbone, group) for group in family.groups}

        assert family.default in found and found["full"] == every
        assert all(names and set(names) <= set(every) for names in found.values())
        assert all(len(names) < len(every) for group, names in found.items() if group != "full")

    @pytest.mark.parametrize("name", TEXT_UNETS)
    def test_of_a_text_unet_they_are_a_partition(self, name):
        backbone = BACKBONES[name]()
        ends = [
            n for n, _ in backbone.named_parameters() if re.match(r"(time_embedding|conv_norm_out|conv_out)\.", n)
        ]
        others, cross = (parameters_of(backbone, group) for group in ("noxattn", "xattn"))

        assert sorted(ends + others + cross) == sorted(parameters_of(backbone, "full"))
        assert sorted(others + cross) == sorted(parameters_of(backbone, "notime"))
        assert set(parameters_of(backbone, "xattn_kv")) < set(cross)

    @pytest.mark.parametrize("name", [*TEXT_UNETS, "classes"])
    def test_only_the_time_embedding_itself_is_left_out(self, name):
        found = parameters_of(BACKBONES[name](), "notime")

        assert any(".time_emb_proj." in key for key in found)  # in every block: the name begins alike
        assert not any(key.startswith("time_embedding.") for key in found)

    def test_layers_alone(self, digits):
        found, norms = parameters_of(digits, "esd_u"), {"norm", "norm1", "norm2", "norm3", "conv_norm_out"}

        assert not any(key.split(".")[-2] in norms or ".attn2." in key for key in found)
        assert "conv_in.weight" in found and any(".attn1.to_q" in key for key in found)

    def test_condition_of_classes(self):
        found = parameters_of(BACKBONES["classes"](), "conditioning")

        assert "class_embedding.weight" in found and "time_embedding.linear_1.weight" in found
        assert {key.split(".")[-2] for key in found} == {"class_embedding", "linear_1", "linear_2", "time_emb_proj"}

    def test_context_of_stable_diffusion_3_is_what_only_the_text_passes(self):
        backbone = BACKBONES["Stable Diffusion 3"]()
        context, image = (set(parameters_of(backbone, group)) for group in ("context", "selfattn"))

        assert not context & image
        assert {"context_embedder.weight", "transformer_blocks.0.ff_context.net.2.bias"} <= context
        assert "transformer_blocks.1.attn.add_k_proj.weight" in context
        assert "transformer_blocks.0.attn.to_out.0.weight" in image

    def test_pattern(self, digits):
        assert parameters_of(digits, re.compile(r"conv_in\.")) == ["conv_in.weight", "conv_in.bias"]
        assert not any("up" in key for key in parameters_of(digits, re.compile("down_blocks")))


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "group", "said"),
        [
            ("Stable Diffusion", "xatn", "group of parameters of a U-Net told texts 'xatn'. Did you mean 'xattn'"),
            ("DiT", "xattn", "group of parameters of a DiT 'xattn'.* Known: conditioning, full, selfattn"),
            ("DiT", 3, "'3'"),
            ("DiT", ["full"], "full"),
        ],
    )
    def test_unknown_group(self, name, group, said):
        with pytest.raises(UnknownNameError, match=said):
            parameters_of(BACKBONES[name](), group)

    def test_pattern_without_a_name(self, digits):
        with pytest.raises(InvalidInputError, match="`train='convin'` names no parameter of this UNet2DConditionM"):
            parameters_of(digits, re.compile("convin"))

    def test_unknown_kind(self):
        with pytest.raises(ModelError, match="must be one of UNet2DConditionModel, UNet2DModel, .* found Linear"):
            family_of(nn.Linear(2, 2))

    def test_model_that_can_be_asked_for_nothing(self):
        model = tiny_diffusion.class_unet(classes=1)
        model.register_to_config(num_class_embeds=None)
        with pytest.raises(ModelError, match="knows no classes"):
            family_of(model)


class TestAsking:
    @pytest.mark.parametrize("name", GENERATORS)
    def test_answers_in_the_shape_of_the_images_and_depends_on_prompt_and_time(self, name):
        wanted = tiny_diffusion.task(name=name)
        gone, anchor = tiny_diffusion.prompts(name)[:2]
        rows = torch.tensor(wanted.process.conditions.known_rows([gone, anchor, gone]))
        told = wanted.process.conditions(rows, torch.device("cpu"))
        shape = wanted.probe.images.shape[1:]
        images = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).expand(3, *shape)
        with torch.no_grad():
            found = wanted.model.predict(images, torch.tensor([500, 500, 900]), told)

        assert found.shape == images.shape and found.dtype is torch.float32
        assert (found[0] - found[1]).abs().max() > 1e-5 and (found[0] - found[2]).abs().max() > 1e-5

    def test_sizes_are_told_to_a_pixart_that_wants_them(self):
        parts = {**tiny_diffusion.pixart_pipeline().components, "transformer": tiny_diffusion.pixart(side=128)}
        pipe = tiny_diffusion.quiet(PixArtAlphaPipeline(**parts))
        wanted = tiny_diffusion.task(pipe, "PixArt", image_size=16)
        how = {"num_inference_steps": 3, "guidance_scale": 2.0, "use_resolution_binning": False, "height": 16}
        random = [torch.Generator().manual_seed(0)]
        theirs = pipe(tiny_diffusion.THREE, generator=random, width=16, clean_caption=False, output_type="pt", **how)

        ours = wanted.drawer(steps=3, guidance=2.0)([tiny_diffusion.THREE], [0])
        torch.testing.assert_close(ours, theirs.images, rtol=0, atol=1e-4)
