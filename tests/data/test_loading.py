import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from amnesty.data import content_hash, load_digits, load_images, read_column
from amnesty.errors import DataError, MissingExtraError, UnknownNameError

datasets = pytest.importorskip("datasets", reason="the `data` extra is not installed")
Image = pytest.importorskip("PIL.Image", reason="the `data` extra is not installed")

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
NAMES = ["cat", "dog"]


def pixels(n, size=(4, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write(path, images, labels=None, image="img", **columns):
    """Write a Parquet file as the hub has them: encoded images and a class label with names."""
    labels = [i % 2 for i in range(len(images))] if labels is None else labels
    features = {image: datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    content = {image: [None if a is None else a if isinstance(a, dict) else png(a) for a in images], "label": labels}
    for name, values in columns.items():
        features[name] = datasets.Image() if isinstance(values[0], np.ndarray) else datasets.Value("string")
        content[name] = [png(v) if isinstance(v, np.ndarray) else v for v in values]
    table = datasets.Dataset.from_dict(content, features=datasets.Features(features))
    table.to_parquet(path)
    return path


class TestParquet:
    def test_gives_the_pixels_back(self, tmp_path):
        images = pixels(6)
        found = load_images(write(tmp_path / "a.parquet", images, user_id=list("abcabc")))
        assert found.images.dtype == torch.uint8
        assert found.images.permute(0, 2, 3, 1).numpy().tolist() == images.tolist()
        assert found.labels.tolist() == [0, 1] * 3
        assert found.class_names == ("cat", "dog")
        assert found.columns["user_id"].tolist() == list("abcabc")
        torch.testing.assert_close(found[0][0], found.images[0] / 255)

    def test_text_paths_and_limits(self, tmp_path):
        path = write(tmp_path / "a.parquet", pixels(6))
        assert len(load_images(str(path), limit=4)) == 4
        assert len(load_images(path, limit=99)) == 6

    def test_several_files_of_a_split(self, tmp_path):
        for i in range(3):
            write(tmp_path / f"train-0000{i}-of-00003.parquet", pixels(2, seed=i))
        write(tmp_path / "test-00000-of-00001.parquet", pixels(5, seed=9))
        train, test = load_images(tmp_path), load_images(tmp_path, split="test")
        expected = np.concatenate([pixels(2, seed=i) for i in range(3)])
        assert train.images.permute(0, 2, 3, 1).numpy().tolist() == expected.tolist()
        assert len(test) == 5
        assert content_hash(train) != content_hash(test)

    def test_grey_and_transparent_images_become_colour(self, tmp_path):
        grey, clear = pixels(1)[0, :, :, 0], np.dstack([pixels(1)[0], np.full((4, 5), 128, np.uint8)])
        found = load_images(write(tmp_path / "a.parquet", [grey, clear]))
        assert found.images.shape == (2, 3, 4, 5)
        assert (found.images[0] == torch.from_numpy(grey.copy())).all()
        assert found.images[1].permute(1, 2, 0).numpy().tolist() == pixels(1)[0].tolist()

    def test_leaves_nothing_in_the_users_cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        load_images(write(tmp_path / "a.parquet", pixels(2)))
        assert not (tmp_path / "cache").exists()

    def test_two_image_columns_need_a_name_and_the_other_is_left_out(self, tmp_path):
        path = write(tmp_path / "a.parquet", pixels(2), mask=list(pixels(2, size=(9, 9), seed=1)))
        with pytest.raises(DataError, match=r"one column of images, found \['img', 'mask'\].*`image_column`"):
            load_images(path)
        assert load_images(path, image_column="mask").images.shape == (2, 3, 9, 9)
        assert load_images(path, image_column="img").columns == {}

    def test_refuses_images_of_different_sizes(self, tmp_path):
        path = write(tmp_path / "a.parquet", [*pixels(2), *pixels(1, size=(8, 8))])
        with pytest.raises(DataError, match=r"one size, found \[4, 5\] and, of image 2 of column .img., \[8, 8\]"):
            load_images(path)

    @pytest.mark.parametrize("image", [None, {"bytes": b"no picture", "path": None}])
    def test_refuses_images_that_are_missing_or_broken(self, tmp_path, image):
        path = write(tmp_path / "a.parquet", [pixels(1)[0], image])
        with pytest.raises(DataError, match="Image 1 of column 'img' is missing or cannot be decoded"):
            load_images(path)

    @pytest.mark.parametrize("labels", [[0, None], [0, -1]])
    def test_refuses_missing_labels(self, tmp_path, labels):
        path = write(tmp_path / "a.parquet", pixels(2), labels=labels)
        with pytest.raises(DataError, match="'label' must hold a class number from 0 for every image"):
            load_images(path)

    def test_refuses_labels_that_are_text(self, tmp_path):
        path = write(tmp_path / "a.parquet", pixels(2), user_id=["a", "b"])
        with pytest.raises(DataError, match="'user_id' must hold a class number"):
            load_images(path, label_column="user_id")

    def test_refuses_no_image_column(self, tmp_path):
        datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"found none among \['text', 'label'\]"):
            load_images(tmp_path / "a.parquet")
        with pytest.raises(DataError, match="'text' does not hold images, but"):
            load_images(tmp_path / "a.parquet", image_column="text")

    @pytest.mark.parametrize("which", [{"image_column": "imgg"}, {"label_column": "lable"}])
    def test_suggests_columns(self, tmp_path, which):
        path = write(tmp_path / "a.parquet", pixels(2))
        with pytest.raises(UnknownNameError, match="Did you mean '(img|label)'"):
            load_images(path, **which)

    def test_refuses_nothing(self, tmp_path):
        path = write(tmp_path / "a.parquet", pixels(2))
        with pytest.raises(DataError, match="`limit` is 0"):
            load_images(path, limit=0)

    @pytest.mark.parametrize("name", ["missing.parquet", "folder", "missing"])
    @pytest.mark.parametrize("kind", [str, Path])
    def test_refuses_a_wrong_path(self, tmp_path, name, kind):
        (tmp_path / "folder").mkdir()
        with pytest.raises(DataError, match=f"No Parquet file of the split 'train' at .*{name}"):
            load_images(kind(tmp_path / name))

    def test_refuses_a_wrong_split(self, tmp_path):
        write(tmp_path / "train-00000-of-00001.parquet", pixels(2))
        with pytest.raises(DataError, match="split 'tset'"):
            load_images(tmp_path, split="tset")

    def test_refuses_what_is_no_parquet(self, tmp_path):
        (tmp_path / "a.parquet").write_bytes(b"something else")
        with pytest.raises(DataError, match="Cannot read the split 'train' of .*a.parquet"):
            load_images(tmp_path / "a.parquet")

    def test_refuses_what_does_not_fit_into_memory(self, tmp_path, monkeypatch):
        def empty(shape, dtype):
            raise MemoryError

        path = write(tmp_path / "a.parquet", pixels(3))
        monkeypatch.setattr(np, "empty", empty)
        with pytest.raises(
            DataError, match=r"3 images of shape \[3, \d+, \d+\] do not fit into memory. Set a smaller"
        ):
            load_images(path)


class TestHub:
    def test_a_name_is_looked_up_there(self, tmp_path, monkeypatch):
        table = datasets.Dataset.from_dict(
            {"image": [png(a) for a in pixels(3)], "label": [0, 1, 0]},
            features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
        )
        asked = []
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or table)
        found = load_images("somebody/pictures", split="test")
        assert asked == [("somebody/pictures", "test")]
        assert found.images.shape == (3, 3, 4, 5)
        assert found.class_names is None

    @pytest.mark.parametrize(
        "error", [ConnectionError("no net"), FileNotFoundError("nobody"), ValueError("no split 'tset'")]
    )
    def test_what_cannot_be_had_is_said(self, monkeypatch, error):
        def fail(name, split):
            raise error

        monkeypatch.setattr(datasets, "load_dataset", fail)
        with pytest.raises(DataError, match=f"Cannot read the split 'train' of somebody/pictures: {error}"):
            load_images("somebody/pictures")

    def test_without_the_package_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(MissingExtraError, match=r"`datasets`.*pip install 'amnesty\[data\]'"):
            load_images("somebody/pictures")


@pytest.mark.skipif(not CIFAR10.is_dir(), reason=f"CIFAR-10 is not at {CIFAR10}")
@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10(split):
    found = load_images(CIFAR10, split=split, limit=20)
    assert found.images.shape == (20, 3, 32, 32)
    assert found.images.dtype == torch.uint8
    assert len(found.class_names) == 10
    assert found.labels.tolist() == [*range(10)] * 2  # class after class, so that any first part is balanced
    assert found.images.float().std(dim=0).min() > 0


def test_digits():
    from sklearn.datasets import load_digits as reference

    found, expected = load_digits(), reference()
    assert found.images.shape == (1797, 1, 8, 8)
    assert found.images.dtype == torch.float32
    assert (found.images.min(), found.images.max()) == (0, 1)
    assert (found.images[:, 0].numpy() * 16 == expected.images).all()
    assert found.labels.tolist() == expected.target.tolist()
    assert found.class_names == tuple("0123456789")


class TestConversion:
    def test_resized_grey_and_normalised(self, tmp_path):
        path = write(tmp_path / "a.parquet", [*pixels(2), *pixels(1, size=(8, 8))], user_id=list("abc"))
        found = load_images(path, size=(6, 7), channels=1, mean=(0.5,), std=(0.25,))
        assert found.images.dtype == torch.uint8 and found.images.shape == (3, 1, 6, 7)
        torch.testing.assert_close(found[0][0], (found.images[0] / 255 - 0.5) / 0.25)
        torch.testing.assert_close(found[[0, 2]][0], (found.images[[0, 2]] / 255 - 0.5) / 0.25)
        assert read_column(found, "user_id").tolist() == list("abc")
        assert found.class_names == ("cat", "dog")

    def test_as_many_channels_as_there_are(self, tmp_path):
        grey = write(tmp_path / "grey.parquet", [a[:, :, 0] for a in pixels(2)])
        assert load_images(grey, channels=None).images.shape == (2, 1, 4, 5)
        assert load_images(grey).images.shape == (2, 3, 4, 5)
        mixed = write(tmp_path / "mixed.parquet", [pixels(1)[0], pixels(1)[0][:, :, 0]])
        with pytest.raises(DataError, match="Image 1 of column 'img' has 1 channels, those before it 3"):
            load_images(mixed, channels=None)

    @pytest.mark.parametrize("share", [0.2, 0.9])
    def test_a_file_that_is_cut_short(self, tmp_path, share):
        path = write(tmp_path / "a.parquet", pixels(6))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=r"Cannot read the split 'train' of .*a.parquet") as found:
            load_images(path)
        assert "\n" not in str(found.value)

    def test_a_damaged_column_of_text(self, tmp_path):
        import pyarrow as pa
        from pyarrow import parquet

        path = write(tmp_path / "a.parquet", pixels(2), user_id=["ab", "cd"])
        table = parquet.read_table(path)
        broken = pa.array([b"\xff\xfe", b"cd"]).view(pa.string())
        column = table.column_names.index("user_id")
        parquet.write_table(table.set_column(column, "user_id", broken), path)
        with pytest.raises(DataError, match="Cannot read the column 'user_id'"):
            load_images(path)
