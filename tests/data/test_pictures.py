import io

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from amnesty.data import Batches, Converted, Inputs, Normalised, class_names, read_column
from amnesty.errors import DataError, InvalidInputError

Image = pytest.importorskip("PIL.Image", reason="the `data` extra is not installed")


def picture(shape=(4, 5, 3), mode=None, seed=0):
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(array)
    return image if mode is None else image.convert(mode)


class TestInputs:
    def test_as_they_are(self):
        image = picture()
        assert (Inputs().pixels(image, "It") == np.asarray(image).transpose(2, 0, 1)).all()
        grey = picture((4, 5))
        assert (Inputs().pixels(grey, "It") == np.asarray(grey)[None]).all()

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
    @pytest.mark.parametrize("channels", [None, 1, 3])
    def test_channels(self, mode, channels):
        found = Inputs(channels=channels).pixels(picture(mode=mode), "It")
        assert found.shape == (channels or (1 if mode in ("L", "LA", "1") else 3), 4, 5)
        assert found.dtype == np.uint8

    def test_resizing_is_bilinear_with_antialiasing(self):
        stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (8, 8)))
        found = Inputs(size=(3, 4)).pixels(stripes, "It")
        assert found.shape == (1, 3, 4)
        assert abs(found.astype(int) - 127).max() < 25  # without antialiasing: stripes of 0 and 255
        same = picture()
        assert (Inputs(size=(4, 5)).pixels(same, "It") == Inputs().pixels(same, "It")).all()

    def test_photographs_that_lie_on_their_side_are_turned(self):
        image, file = picture(), io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(file, "PNG", exif=exif)
        found = Inputs().pixels(Image.open(file), "It")
        assert (found == np.rot90(np.asarray(image), -1).transpose(2, 0, 1)).all()

    def test_normalising_is_in_float32_and_the_same_alone_and_in_a_batch(self):
        inputs = Inputs(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
        images = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8)
        found = inputs.numbers(images)
        expected = (images.double() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(-1, 1, 1)) / torch.tensor(
            [0.5, 0.6, 0.7]
        ).view(-1, 1, 1)
        torch.testing.assert_close(found, expected.float())
        assert torch.equal(torch.stack([inputs.numbers(x) for x in images]), found)

    def test_one_mean_for_all(self):
        images = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
        three = Inputs(mean=(0.5,) * 3, std=(0.2,) * 3).numbers(images)
        assert torch.equal(Inputs(mean=(0.5,), std=(0.2,)).numbers(images), three)

    @pytest.mark.parametrize(
        "bad",
        [
            {"size": (0, 4)},
            {"size": (4, 4, 4)},
            {"size": (4.0, 4)},
            {"size": (True, 4)},
            {"channels": 2},
            {"mean": (0.5,)},
            {"std": (0.5,)},
            {"mean": (0.5, 0.5), "std": (0.5, 0.5)},
            {"mean": (0.5,) * 3, "std": (0.5,) * 3, "channels": 1},
            {"mean": (0.5,), "std": (0.0,)},
            {"mean": (float("nan"),), "std": (1.0,)},
        ],
        ids=str,
    )
    def test_refuses(self, bad):
        with pytest.raises(InvalidInputError):
            Inputs(**bad)

    def test_refuses_what_has_more_than_eight_bits(self):
        with pytest.raises(DataError, match="The picture has the mode I;16; convert it to 8 bits"):
            Inputs().pixels(Image.fromarray(np.zeros((4, 4), np.uint16)), "The picture")


class TestNormalised:
    def test_is_read_in_batches(self):
        images = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8)
        inputs = Inputs(mean=(0.5,), std=(0.25,))
        data = Normalised(images, torch.arange(6), columns={"user": list("abcdef")}, inputs=inputs)
        batches = list(Batches(Subset(data, [5, 1, 3]), 2).iterate())
        assert torch.equal(torch.cat([x for x, _ in batches]), inputs.numbers(images[[5, 1, 3]]))
        assert torch.equal(data[2][0], inputs.numbers(images[2]))
        assert read_column(Subset(data, [4]), "user").tolist() == ["e"]

    def test_stays_so_under_other_labels(self):
        images = torch.randint(0, 256, (2, 1, 4, 5), dtype=torch.uint8)
        data = Normalised(images, torch.tensor([0, 1]), inputs=Inputs(mean=(0.5,), std=(0.25,)))
        other = data.relabelled(torch.tensor([1, 1]))
        assert torch.equal(other[0][0], data[0][0]) and other[0][1] == 1
        assert other.columns["true_label"].tolist() == [0, 1]


class Pictures:
    """A data set of PIL images, as torchvision has them."""

    classes = ("cat", "dog")

    def __init__(self, count=4, wrong=None):
        self.targets = [i % 2 for i in range(count)]
        self.user = list("abcd")[:count]
        self.wrong = wrong

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = self.wrong if self.wrong is not None and index == 2 else picture(seed=index)
        return image, self.targets[index]


class TestConverted:
    def test_images_become_inputs_and_facts_stay(self):
        data = Converted(Subset(Pictures(), [3, 0]), Inputs(size=(2, 2), mean=(0.5,), std=(0.5,)))
        image, label = data[0]
        assert image.shape == (3, 2, 2) and image.dtype == torch.float32 and label == 1
        assert image.min() < 0
        assert len(data) == 2
        assert read_column(Subset(data, [1, 0]), "user").tolist() == ["a", "d"]
        assert read_column(data, "label").tolist() == [1, 0]
        assert class_names(Subset(data, [0])) == ("cat", "dog")
        inputs, labels = next(Batches(data, 2, workers=1).iterate())
        assert torch.equal(inputs[0], image) and labels.tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            (picture((9, 9, 3)), "of image 2, \\[9, 9\\] .* Set `size`"),
            (picture((4, 5)), "Image 2 has 1 channels, those before it 3: set `channels`"),
            (torch.zeros(3, 4, 5), "Example 2 must hold a PIL image"),
        ],
        ids=["size", "channels", "type"],
    )
    def test_refuses_images_unlike_the_first(self, wrong, says):
        data = Converted(Pictures(wrong=wrong), Inputs())
        with pytest.raises(DataError, match=says):
            data[2]

    def test_a_mean_must_fit(self):
        grey = [(picture((4, 5)), 0)]
        with pytest.raises(DataError, match="Image 0 has 1 channels, `mean` and `std` have 3"):
            Converted(grey, Inputs(mean=(0.5,) * 3, std=(0.5,) * 3))
