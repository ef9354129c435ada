import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from amnesty.data import Examples
from amnesty.errors import DataError, InvalidInputError, ModelError, ShapeError
from amnesty.tasks.diffusion import Concept, Drawer
from tests import tiny_diffusion
from tests.tiny_diffusion import FIVE, FOUR, SIX, THREE, Pictures, task

GREY = {"side": 8, "channels": 1}


def concept(images, **options):
    """A request about classes whose concept has these images."""
    return task(name="classes", forget=Concept(0, 1, images), **options)


def pixels(wanted):
    """What the backbone works on, of a model without an autoencoder: pixels in [-1, 1]."""
    wanted.check()
    latents, _ = wanted.parts["forget"].tensors
    mean, deviation = latents.chunk(2, dim=1)
    assert not deviation.any()
    return (mean + 1) / 2


class TestImages:
    @pytest.mark.parametrize("kind", ["PIL", "uint8", "float", "numpy", "numpy uint8", "pairs", "mapping", "tensor"])
    def test_of_every_kind(self, kind):
        levels = (Pictures(3, **GREY).images * 255).round().to(torch.uint8)
        floats = levels.float() / 255
        images = {
            "PIL": [Image.fromarray(x[0].numpy()) for x in levels],
            "uint8": list(levels),
            "float": list(floats),
            "numpy": [x.numpy() for x in floats],
            "numpy uint8": levels.numpy(),
            "pairs": [(x, "not read") for x in levels],
            "mapping": [{"image": x} for x in floats],
            "tensor": floats,
        }[kind]

        torch.testing.assert_close(pixels(concept(images)), floats)

    @pytest.mark.parametrize("data", ["Examples", "TensorDataset"])
    def test_of_data_sets(self, data):
        images = Pictures(3, **GREY).images
        found = {"Examples": Examples(images, torch.tensor([0, 1, 0])), "TensorDataset": TensorDataset(images)}[data]

        torch.testing.assert_close(pixels(concept(found)), images)

    def test_one_channel_of_a_coloured_picture(self):
        red = Image.new("RGB", (8, 8), (255, 0, 0))
        assert pixels(concept([red])).shape == (1, 1, 8, 8)

    def test_grey_pictures_of_a_model_that_knows_colours(self):
        wanted = task(forget=Concept(THREE, FOUR, [Image.new("L", (16, 16), 128)]))
        wanted.check()
        assert wanted.parts["forget"].tensors[0].shape == (1, 8, 8, 8)

    def test_resized_where_asked(self):
        smooth = torch.linspace(0, 1, 32).expand(1, 32, 32)
        picture = Image.fromarray((255 * smooth[0]).round().numpy().astype(np.uint8))
        kept = {"retain": Pictures(2, [2, 3], side=20, channels=1)}
        found = pixels(concept([smooth, picture], image_size=8, **kept))

        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0.01)
        torch.testing.assert_close(found[0, 0, 0], torch.linspace(0.05, 0.95, 8), rtol=0, atol=0.02)

    def test_sides_of_their_own(self):
        kept = {"retain": Pictures(2, [2, 3], **GREY)}
        wanted = concept([torch.rand(1, 5, 7)], image_size=(8, 16), **kept)
        assert pixels(wanted).shape == (1, 1, 8, 16)
        assert wanted.drawer(steps=2)([0], [0]).shape == (1, 1, 8, 16)

    def test_encoded_as_the_pipeline_does(self):
        wanted = task()
        wanted.check()
        latents, numbers = wanted.parts["retain"].tensors
        vae, images = wanted.parts_of_generator.vae, Pictures(8, seed=1).images
        with torch.no_grad():
            found = vae.encode(2 * images - 1).latent_dist
        scale = vae.config.scaling_factor

        torch.testing.assert_close(latents, scale * torch.cat([found.mean, found.std], dim=1), rtol=1e-4, atol=1e-5)
        assert len(set(numbers.tolist())) == 2

    def test_decoded_is_what_was_encoded(self):
        parts = task(tiny_diffusion.sd3_pipeline(), "Stable Diffusion 3").parts_of_generator
        mean, _ = parts.encode(torch.zeros(1, 3, 16, 16))
        vae = parts.vae
        with torch.no_grad():
            theirs = vae.decode(vae.encode(torch.zeros(1, 3, 16, 16)).latent_dist.mean).sample
        torch.testing.assert_close(parts.decode(mean), (theirs / 2 + 0.5).clamp(0, 1))


class TestCaptions:
    def captions(self, wanted):
        wanted.check()
        return [wanted._captions.prompts_of(k) for k in wanted.parts["retain"].tensors[1].tolist()]

    def test_texts_beside_the_images(self):
        assert self.captions(task(retain=Pictures(3, [FIVE, SIX]))) == [(FIVE,), (SIX,), (FIVE,)]

    def test_labels_that_captions_explain(self):
        said = {5: FIVE, 6: [SIX, "a photo of six"]}
        for labels in ([5, 6], [torch.tensor(5), torch.tensor(6)], [np.int64(5), np.int64(6)]):
            assert self.captions(task(retain=Pictures(2, labels), captions=said)) == [
                (FIVE,),
                (SIX, "a photo of six"),
            ]

    def test_classes(self):
        data = Examples(Pictures(3, **GREY).images, torch.tensor([1, 3, 2]))
        assert self.captions(task(name="classes", retain=data)) == [(1,), (3,), (2,)]

    def test_what_is_kept(self):
        assert task(retain=Pictures(3, [SIX, FIVE])).kept == (SIX, FIVE)
        assert task(retain=[FIVE, SIX, FIVE]).kept == (FIVE, SIX)


class TestDrawn:
    def test_images_of_the_concept_are_drawn_where_there_are_none(self):
        how = tiny_diffusion.amnesty.Drawing(per_prompt=3, steps=2, guidance=2.0, batch_size=2)
        wanted = task(name="classes", forget=Concept([0, 1], 2), retain=[2, 3], drawing=how)
        wanted.check()
        latents, numbers = wanted.parts["forget"].tensors

        assert len(wanted.parts["forget"]) == 6 and len(wanted.parts["retain"]) == 6
        assert numbers.tolist() == [0] * 6 and wanted.parts["retain"].tensors[1].tolist() == [1, 1, 1, 2, 2, 2]
        assert not latents[:, 1:].any()  # known exactly, so there is nothing to draw of them
        assert len(torch.unique(latents, dim=0)) == 6
        assert wanted.retain_loss == "distill" and wanted.forget_loss == "anchor"

    def test_every_prompt_has_its_turn_and_the_original_draws(self):
        how = tiny_diffusion.amnesty.Drawing(per_prompt=2, steps=2)
        asked, before = [], Drawer.latents

        def latents(self, prompts, seeds):
            assert self.denoiser is wanted.original and len(set(seeds)) == len(seeds)
            asked.append(list(prompts))
            return before(self, prompts, seeds)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Drawer, "latents", latents)
            wanted = task(name="classes", forget=Concept([0, 1], 2), retain=[2, 3], drawing=how)
            for part in wanted.parts.values():
                assert len(part.tensors[0]) == 4
                assert part[[0, 1]][0].shape == (2, 2, 8, 8)  # once
        assert asked == [[0, 1, 0, 1], [2, 2, 3, 3]]

    def test_nothing_is_drawn_before_it_is_needed(self):
        def fail(*args, **options):
            raise AssertionError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("amnesty.tasks.diffusion.sampling.Drawer.latents", fail)
            wanted = task(name="classes", forget=Concept(0, 1), retain=[2, 3])
            wanted.check()


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 8, 8)


class Nothing(Dataset):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise IndexError


BAD_IMAGES = {
    "another size": ([torch.zeros(1, 9, 9)], ShapeError, "Image 0 .* has the shape .1, 9, 9., but .* .1, 8, 8."),
    "another size of a picture": ([Image.new("L", (4, 8))], ShapeError, "Give `image_size` to have images resized"),
    "more channels": ([torch.zeros(3, 8, 8)], ShapeError, "has the shape .3, 8, 8."),
    "channels last": ([np.zeros((8, 8, 1), np.uint8)], ShapeError, "has the shape .8, 8, 1."),
    "no channels": ([torch.zeros(8, 8)], DataError, r"shape \[C, H, W\]; found torch.float32, \[8, 8\]"),
    "whole numbers": ([torch.zeros(1, 8, 8, dtype=torch.int64)], DataError, "must be uint8 or floats in .0, 1."),
    "NaN": ([torch.zeros(1, 8, 8), torch.full((1, 8, 8), torch.nan)], DataError, "Image 1 of the concept 'forget'"),
    "below 0": ([-torch.ones(1, 8, 8)], DataError, r"must have values in \[0, 1\], found -1 to -1"),
    "above 1": ([255 * torch.ones(1, 8, 8)], DataError, "found 255 to 255"),
    "no image": (["three.png"], DataError, "must be a PIL image or a tensor .C, H, W., found str"),
    "nothing": ([None], DataError, "found NoneType"),
    "a deep picture": ([Image.new("I;16", (8, 8))], DataError, "convert it to 8 bits"),
    "a loader": (DataLoader(Pictures(3, **GREY)), DataError, "must be a data set with a length, found DataLoader"),
    "endless": (Endless(), DataError, "must be a data set with a length, found Endless"),
    "empty": (Nothing(), DataError, "There are no images of the concept 'forget'"),
    "an empty list": ([], DataError, "There are no images"),
}

BAD_KEPT = {
    "captions missing": (Pictures(3, **GREY), {}, InvalidInputError, "has no caption"),
    "empty caption": (Pictures(3, ["", "x"], **GREY), {}, InvalidInputError, "must not be empty"),
    "a text of classes": (Pictures(3, ["two"], **GREY), {}, InvalidInputError, "classes, not texts: .* found 'two'"),
    "class out of range": (Pictures(3, [1, 4], **GREY), {}, InvalidInputError, "Class 4 does not exist.* 0 to 3"),
    "negative class": (Pictures(3, [-1], **GREY), {}, InvalidInputError, "counted from 0, found -1"),
    "label without caption": (Pictures(3, [1, 2], **GREY), {"captions": {1: 1}}, InvalidInputError, "lacks the lab"),
    "several labels": (Pictures(3, [torch.tensor([1, 2])], **GREY), {}, InvalidInputError, "A prompt must be a text"),
    "kept and forgotten": (Pictures(3, [1, 0], **GREY), {}, InvalidInputError, "'0' is to be forgotten and kept"),
    "a loader": (DataLoader(Pictures(3, [1], **GREY)), {}, DataError, "images of the retain set must be a data set"),
    "one prompt": (3, {}, InvalidInputError, "found 3 alone"),
    "none": (None, {}, InvalidInputError, "`retain` must say what is kept"),
    "no prompts": ([], {}, InvalidInputError, "at least one prompt"),
    "a prompt and what is none": ([1, True], {}, InvalidInputError, "found True"),
    "a prompt to be forgotten": ([1, 0], {}, InvalidInputError, "'0' is to be forgotten and kept"),
}


class TestBadInput:
    @pytest.mark.parametrize("images", BAD_IMAGES)
    def test_images(self, images):
        data, error, said = BAD_IMAGES[images]
        with pytest.raises(error, match=said):
            concept(data).check()

    @pytest.mark.parametrize("kept", BAD_KEPT)
    def test_what_is_kept(self, kept):
        data, options, error, said = BAD_KEPT[kept]
        with pytest.raises(error, match=said):
            task(name="classes", retain=data, **options).check()

    def test_autoencoder_that_cannot_take_them(self):
        pipe = tiny_diffusion.stable()
        pipe.vae = torch.nn.Linear(2, 2)
        pipe.vae.config = tiny_diffusion.autoencoder().config
        with pytest.raises(ModelError, match="The autoencoder cannot take the images: AttributeError"):
            task(pipe).check()
