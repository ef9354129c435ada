from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from amnesty.errors import ModelError
from amnesty.tasks.diffusion.parts import parts_of
from tests import tiny_diffusion
from tests.tiny_diffusion import task


class TestFinding:
    @pytest.mark.parametrize("kind", ["mapping", "object"])
    def test_in_whatever_has_them_by_name(self, kind):
        given = tiny_diffusion.classes()
        found = parts_of(given if kind == "mapping" else SimpleNamespace(**given))
        assert found.backbone is given["unet"] and found.vae is None and found.name == "unet"
        assert (found.channels, found.image_channels, found.factor, found.size) == (1, 1, 1, (8, 8))

    def test_in_pipelines(self):
        found = parts_of(tiny_diffusion.dit_pipeline())
        assert found.name == "transformer"
        assert (found.channels, found.image_channels, found.factor, found.size) == (4, 3, 2, (16, 16))

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (None, "a `unet` or `transformer` and a `scheduler`; found NoneType"),
            ({"unet": "unet"}, "found dict"),
            ("stable-diffusion", "found str"),
            (nn.Linear(2, 2), "found Linear"),
            ({"unet": nn.Linear(2, 2), "scheduler": 1}, "with a configuration, found Linear"),
            ({"unet": tiny_diffusion.class_unet()}, "has no `scheduler`"),
        ],
    )
    def test_bad_input(self, given, said):
        with pytest.raises(ModelError, match=said):
            parts_of(given)

    def test_no_size(self):
        given = {**tiny_diffusion.classes(), "unet": tiny_diffusion.class_unet(sample_size=None)}
        with pytest.raises(ModelError, match="has no `sample_size`: give `image_size`"):
            task(given, "classes")
        task(given, "classes", image_size=8).check()


@dataclass(frozen=True)
class Frozen:
    unet: Any
    scheduler: Any


class TestPipelineOf:
    """The generator with another backbone, whoever holds the parts."""

    @pytest.mark.parametrize("kind", [dict, Frozen, SimpleNamespace])
    def test_of_every_holder(self, kind):
        given = kind(**tiny_diffusion.classes())
        wanted = task(given, "classes")
        made = wanted.pipeline_of(wanted.model)
        before, after = (x["unet"] if kind is dict else x.unet for x in (given, made))

        assert type(made) is kind and made is not given and after is not before
        assert type(after) is type(before)
        for one, other in zip(before.state_dict().values(), after.state_dict().values(), strict=True):
            assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_halves_are_worked_on_in_full_and_handed_back_as_halves(self, dtype):
        pipe = tiny_diffusion.stable().to(dtype)
        wanted = task(pipe)
        wanted.check()
        assert {p.dtype for p in wanted.model.parameters()} == {torch.float32}
        assert pipe.unet.dtype is dtype and pipe.vae.dtype is dtype

        made = wanted.pipeline_of(wanted.model)
        assert made.unet.dtype is dtype
        for one, other in zip(pipe.unet.parameters(), made.unet.parameters(), strict=True):
            assert torch.equal(one, other)
        images = wanted.drawer(steps=2)([tiny_diffusion.THREE], [0])
        assert images.dtype is torch.float32 and images.isfinite().all()
