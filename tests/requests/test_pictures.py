"""Images of zero-shot requests: of all sizes, from wherever requests may have them."""

import numpy as np
import pytest
import torch

from amnesty.data import class_names, read_column
from amnesty.errors import DataError, InvalidInputError, UnknownNameError
from amnesty.requests.pictures import load_pictures, load_pixels, names_in, pictures_of
from amnesty.requests.request import DataSpec, SourceSpec
from amnesty.tasks.zero_shot.pixels import PixelValues

datasets = pytest.importorskip("datasets", reason="the `data` extra is not installed")
image = pytest.importorskip("PIL.Image", reason="the `data` extra is not installed")

SIZES = ((8, 8), (6, 10), (12, 5))  # width and height
HERE = "tests.requests.test_pictures"


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 256, (*SIZES[number % 3][::-1], 3), dtype=np.uint8)
    return image.fromarray(pixels)


def halved(one):
    """Stands for an image processor: four by four pixels, in [0, 1]."""
    return torch.from_numpy(np.array(one.resize((4, 4)))).permute(2, 0, 1) / 255


def table(**changes):
    columns = {
        "image": [picture(i) for i in range(6)],
        "label": [0, 1, 2, 0, 1, 2],
        "caption": [f"text {i}" for i in range(6)],
        **changes,
    }
    features = datasets.Features(
        {
            name: datasets.Image()
            if name in ("image", "other")
            else datasets.ClassLabel(names=["a", "b", "c"])
            if name == "label" and None not in columns["label"]
            else datasets.Value("string" if name == "caption" else "int64")
            for name in columns
        }
    )
    return datasets.Dataset.from_dict(columns, features=features)


def pairs():
    return [(picture(i), i % 2) for i in range(4)]


def numbers():
    return [(np.zeros((3, 4, 4)), 0)]


@pytest.fixture
def parquet(tmp_path):
    def write(**changes):
        table(**changes).to_parquet(tmp_path / "table.parquet")
        return SourceSpec(kind="parquet", name=str(tmp_path / "table.parquet"))

    return write


def imported(name, **more):
    return SourceSpec(kind="import", name=f"{HERE}:{name}", **more)


class TestTables:
    def test_images_keep_their_sizes(self, parquet):
        found = load_pictures(parquet())
        assert [tuple(found[i][0].shape) for i in range(3)] == [(3, h, w) for w, h in SIZES]
        assert torch.equal(found[1][0], torch.from_numpy(np.array(picture(1))).permute(2, 0, 1))
        assert class_names(found) == ("a", "b", "c") and read_column(found, "label").tolist() == [0, 1, 2, 0, 1, 2]
        assert read_column(found, "caption")[4] == "text 4"

    def test_with_captions(self, parquet):
        found = load_pictures(parquet(), captioned=True)
        assert found[5][1] == "text 5" and class_names(found) is None

    @pytest.mark.parametrize("source", ["parquet", "function"])
    def test_a_limit(self, parquet, source):
        spec = parquet() if source == "parquet" else imported("table")
        limited = SourceSpec(kind=spec.kind, name=spec.name, limit=2)
        assert len(load_pictures(limited)) == 2

    @pytest.mark.parametrize(
        ("changes", "more", "error", "says"),
        [
            ({}, {"label_column": "lable"}, UnknownNameError, "Did you mean 'label'"),
            ({}, {"image_column": "label"}, DataError, "does not hold images"),
            ({"other": [picture(i) for i in range(6)]}, {}, DataError, "image_column"),
            ({}, {"label_column": "caption"}, DataError, r"class number from 0 .* found 'text 0' in row 0"),
            ({"label": [0, 1, None, 0, 1, 2]}, {}, DataError, "found None in row 2"),
        ],
        ids=["no such column", "no images", "two columns of images", "texts for labels", "a label is missing"],
    )
    def test_what_cannot_be_read(self, parquet, changes, more, error, says):
        spec = parquet(**changes)
        with pytest.raises(error, match=says):
            load_pictures(SourceSpec(kind=spec.kind, name=spec.name, **more))

    def test_captions_that_are_missing(self, parquet):
        with pytest.raises(DataError, match="must hold a text for every image, found None in row 1"):
            load_pictures(parquet(caption=["a", None, *"cdef"]), captioned=True)

    def test_an_image_that_cannot_be_decoded(self, parquet):
        spec = parquet(image=[None, *(picture(i) for i in range(5))])
        with pytest.raises(DataError, match="Image 0 of the split 'train' of .* missing"):
            load_pictures(spec)[0]


class TestFoldersAndFunctions:
    def test_a_folder(self, tmp_path):
        for number, name in enumerate(("cat", "dog", "cat")):
            (tmp_path / name).mkdir(exist_ok=True)
            picture(number).save(tmp_path / name / f"{number}.png")
        found = load_pictures(SourceSpec(kind="images", name=str(tmp_path)))
        assert [tuple(found[i][0].shape) for i in range(3)] == [(3, 8, 8), (3, 5, 12), (3, 10, 6)]
        assert found[0][0].dtype == torch.uint8 and class_names(found) == ("cat", "dog")

    def test_images_of_a_function_stay_as_they_are(self):
        found = load_pictures(imported("pairs"))
        assert found[2][0].size == SIZES[2] and read_column(found, "label").tolist() == [0, 1, 0, 1]

    def test_neither_images_nor_tensors(self):
        with pytest.raises(DataError, match="tensors or PIL images, found ndarray"):
            load_pictures(imported("numbers"))


class TestPixels:
    def test_the_processor_makes_them_one_size(self, parquet):
        sources = load_pixels(DataSpec(training=parquet(), holdout=imported("pairs")), halved)
        inputs, labels = sources.training[[0, 1, 2]]
        assert inputs.shape == (3, 3, 4, 4) and labels.tolist() == [0, 1, 2] and sources.classes == 3
        assert torch.equal(inputs[1], halved(picture(1)))
        assert isinstance(sources.holdout, PixelValues) and pictures_of(sources.holdout)[0][0].size == SIZES[0]
        assert sources.describe["training"]["inputs"] is None

    def test_an_image_that_the_processor_cannot_take_is_named(self, parquet):
        sources = load_pixels(DataSpec(training=parquet()), lambda one: 1 / 0)
        with pytest.raises(DataError, match="Example 3 of the training set .*division by zero"):
            sources.training[3]


class TestNames:
    def test_given_ones_come_first(self, parquet):
        assert names_in(load_pictures(parquet()), None, "It") == ("a", "b", "c")
        assert names_in(load_pictures(parquet()), ("x", "y", "z"), "It") == ("x", "y", "z")
        assert names_in(load_pictures(imported("pairs")), ("x", "y"), "It") == ("x", "y")

    @pytest.mark.parametrize(
        ("spec", "given", "says"), [("pairs", None, "does not name"), ("table", ("x",), "3 classes")]
    )
    def test_none_and_too_few(self, spec, given, says):
        with pytest.raises(InvalidInputError, match=says):
            names_in(load_pictures(imported(spec)), given, "It")
