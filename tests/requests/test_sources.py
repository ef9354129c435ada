import dataclasses
import io

import numpy as np
import pytest
from torch.utils.data import Subset

from amnesty.data import Column, Fraction, class_names, content_hash, load_images, read_column, split
from amnesty.errors import AmnestyError, DataError, InvalidInputError, UnknownNameError
from amnesty.requests.request import DataSpec, InputsSpec, SourceSpec
from amnesty.requests.sources import load_source, load_sources, refuse_other_order

datasets = pytest.importorskip("datasets", reason="the `data` extra is not installed")
Image = pytest.importorskip("PIL.Image", reason="the `data` extra is not installed")

AS_THEY_ARE = InputsSpec()
NORMALISED = InputsSpec(size=(6, 6), channels=3, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def pixels(seed=0, size=(4, 5)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def parquet(path, labels, names=("cat", "dog"), images=None, **columns):
    def png(array):
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    images = [png(pixels(i)) for i in range(len(labels))] if images is None else images
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    features |= {name: datasets.Value("string") for name in columns}
    table = {"img": images, "label": labels, **columns}
    datasets.Dataset.from_dict(table, features=datasets.Features(features)).to_parquet(path)
    return SourceSpec(kind="parquet", name=str(path))


def folder(path, *names):
    for i, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(path / name)
    return SourceSpec(kind="images", name=str(path))


def function(tmp_path, body):
    head = "import datasets, numpy as np, torch\nfrom PIL import Image\nfrom torch.utils.data import *\n\n"
    (tmp_path / "mine.py").write_text(f"{head}def data(count=4):\n{body}\n")
    return SourceSpec(kind="import", name=f"{tmp_path}/mine.py:data")


PILLOW = """
    class Pictures:
        classes = ["cat", "dog"]
        def __init__(self): self.targets = [i % 2 for i in range(count)]; self.user = list("abcdefgh")[:count]
        def __len__(self): return count
        def __getitem__(self, i): return Image.new("RGB", (5, 4), (50 * i, 0, 0)), self.targets[i]
    return Pictures()"""
TENSORS = "    return TensorDataset(torch.rand(count, 3, 4, 5), torch.arange(count) % 2)"
TABLE = """
    images = [Image.new("RGB", (5, 4), (50 * i, 0, 0)) for i in range(count)]
    columns = {"image": images, "label": [i % 2 for i in range(count)], "user": list("abcdefgh")[:count]}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())"""
MAPPINGS = """
    return [{"pixel_values": torch.rand(3, 4, 5), "labels": i % 2} for i in range(count)]"""


class TestKinds:
    def test_parquet(self, tmp_path):
        spec = parquet(tmp_path / "a.parquet", [0, 1, 0], user=list("xyz"))
        data = load_source(spec, NORMALISED)
        image, label = data[1]
        assert image.shape == (3, 6, 6) and image.min() < 0 and label == 1
        assert read_column(Subset(data, [2]), "user").tolist() == ["z"]
        assert split(data, Column("user", ["y"])).forget.tolist() == [1]

    def test_grey_stays_grey(self, tmp_path):
        images = [Image.fromarray(pixels(i)[:, :, 0]) for i in range(2)]
        spec = parquet(tmp_path / "a.parquet", [0, 1], images=images)
        assert load_source(spec, AS_THEY_ARE)[0][0].shape == (1, 4, 5)

    def test_the_hubs_names_take_the_same_way(self, tmp_path, monkeypatch):
        spec = parquet(tmp_path / "a.parquet", [0, 1, 0])
        table = datasets.Dataset.from_parquet(spec.name, cache_dir=str(tmp_path / "cache"))
        asked = []
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or table)
        data = load_source(SourceSpec(kind="huggingface", name="x/y", split="test"), NORMALISED)
        assert asked == [("x/y", "test")]
        assert content_hash(data) == content_hash(load_source(spec, NORMALISED))

    def test_folders(self, tmp_path):
        data = load_source(folder(tmp_path, "cat/1.png", "dog/1.png"), NORMALISED)
        assert data[1][0].shape == (3, 6, 6)
        assert read_column(Subset(data, [1]), "path").tolist() == ["dog/1.png"]

    def test_a_folder_and_a_table_give_the_same_inputs(self, tmp_path):
        table = load_source(parquet(tmp_path / "a.parquet", [0, 1]), NORMALISED)
        pictures = load_source(folder(tmp_path / "f", "cat/1.png", "dog/1.png"), NORMALISED)
        assert content_hash(table) == content_hash(pictures)

    @pytest.mark.parametrize("body", [PILLOW, TABLE], ids=["pillow", "table"])
    def test_functions_that_return_pictures(self, tmp_path, body):
        data = load_source(function(tmp_path, body), NORMALISED)
        assert data[1][0].shape == (3, 6, 6) and len(data) == 4
        assert read_column(Subset(data, [2, 1]), "user").tolist() == ["c", "b"]
        assert read_column(data, "label").tolist() == [0, 1, 0, 1]
        assert split(data, Column("user", ["d"])).forget.tolist() == [3]

    @pytest.mark.parametrize("body", [TENSORS, MAPPINGS], ids=["tensors", "mappings"])
    def test_functions_that_return_inputs(self, tmp_path, body):
        data = load_source(function(tmp_path, body), NORMALISED)
        first = data[0][0] if isinstance(data[0], tuple) else data[0]["pixel_values"]
        assert first.shape == (3, 4, 5)
        assert read_column(data, "label").tolist() == [0, 1, 0, 1]

    def test_functions_take_options_and_limits(self, tmp_path):
        spec = function(tmp_path, PILLOW)
        spec = SourceSpec(kind="import", name=spec.name, options={"count": 7}, limit=5)
        assert len(load_source(spec, AS_THEY_ARE)) == 5
        assert len(load_source(SourceSpec(kind="import", name=spec.name, limit=99), AS_THEY_ARE)) == 4

    def test_a_formatted_table_is_taken_as_it_is(self, tmp_path):
        body = TABLE.replace("return", "table =") + '\n    return table.with_format("torch")'
        data = load_source(function(tmp_path, body), AS_THEY_ARE)
        assert data[0]["image"].shape == (3, 4, 5)
        assert read_column(Subset(data, [3]), "user").tolist() == ["d"]


class TestTogether:
    def test_folders_are_numbered_as_the_training_folder(self, tmp_path):
        training = folder(tmp_path / "a", "ape/1.png", "cat/1.png", "dog/1.png")
        holdout = folder(tmp_path / "b", "dog/1.png", "dog/2.png")
        found = load_sources(DataSpec(training=training, holdout=holdout))
        assert read_column(found.holdout, "label").tolist() == [2, 2]
        assert class_names(found.holdout) == ("ape", "cat", "dog") and found.classes == 3

    def test_tables_in_another_order_are_refused(self, tmp_path):
        training = parquet(tmp_path / "a.parquet", [0, 1])
        holdout = parquet(tmp_path / "b.parquet", [0, 1], names=("dog", "cat"))
        with pytest.raises(DataError, match="'dog' has the number 1 in the training data and 0 in the holdout data"):
            load_sources(DataSpec(training=training, holdout=holdout))

    def test_classes_are_those_with_names_or_labels(self, tmp_path):
        named = parquet(tmp_path / "a.parquet", [0, 1], names=("a", "b", "c", "d"))
        assert load_sources(DataSpec(training=named)).classes == 4
        assert load_sources(DataSpec(training=function(tmp_path, TENSORS))).classes == 2

    def test_rows_and_shares_are_no_sources(self, tmp_path):
        spec = parquet(tmp_path / "a.parquet", [0, 1])
        found = load_sources(DataSpec(training=spec, holdout=Fraction(0.5), validation=0.5))
        assert found.holdout is None and found.validation is None

    def test_what_they_are_is_described(self, tmp_path):
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "notes.txt").touch()
        training = folder(tmp_path / "f", "cat/1.png", "dog/1.png")
        holdout = function(tmp_path, TENSORS)
        found = load_sources(DataSpec(training=training, holdout=holdout, inputs=NORMALISED)).describe
        assert found["training"]["examples"] == 2 and found["training"]["class_names"] == ["cat", "dog"]
        assert found["training"]["inputs"]["mean"] == [0.5, 0.5, 0.5]
        assert found["training"]["ignored_files"] == ["notes.txt"]
        assert found["holdout"]["inputs"] is None and found["holdout"]["kind"] == "import"

    def test_inputs_for_nothing_are_refused(self, tmp_path):
        data = DataSpec(training=function(tmp_path, TENSORS), inputs=NORMALISED)
        with pytest.raises(InvalidInputError, match="`data.inputs` says how images become inputs"):
            load_sources(data)
        assert load_sources(DataSpec(training=data.training), NORMALISED).classes == 2  # from the model's folder


def test_orders_are_compared_name_by_name():
    refuse_other_order(("a", "b"), ("A", " b ", "c"), "one", "other")
    refuse_other_order(None, ("a",), "one", "other")
    refuse_other_order(("x", "y"), ("a", "b"), "one", "other")
    with pytest.raises(DataError, match="'B' has the number 1 in one and 0 in other"):
        refuse_other_order(("a", "b"), ("B",), "one", "other")


def rewritten(tmp_path, change):
    spec, path = parquet(tmp_path / "a.parquet", [0, 1, 0]), tmp_path / "a.parquet"
    path.write_bytes(change(path.read_bytes()))
    return spec


def encoded(share):
    file = io.BytesIO()
    Image.fromarray(pixels(size=(40, 40))).save(file, "PNG")
    return {"bytes": file.getvalue()[: int(share * len(file.getvalue()))], "path": None}


def named(tmp_path, **changes):
    return dataclasses.replace(parquet(tmp_path / "a.parquet", [0, 1]), **changes)


MAKE = {
    "cut parquet": lambda p: rewritten(p, lambda content: content[:-20]),
    "no parquet": lambda p: rewritten(p, lambda content: b"PAR1 not really PAR1"),
    "corrupt image": lambda p: parquet(p / "a.parquet", [0], images=[{"bytes": b"\x89PNG rubbish", "path": None}]),
    "cut image": lambda p: parquet(p / "a.parquet", [0], images=[encoded(0.4)]),
    "no image": lambda p: parquet(p / "a.parquet", [0], images=[None]),
    "missing label": lambda p: parquet(p / "a.parquet", [0, None]),
    "negative label": lambda p: parquet(p / "a.parquet", [0, -1]),
    "empty": lambda p: parquet(p / "a.parquet", []),
    "column": lambda p: named(p, image_column="imgs"),
    "label column": lambda p: named(p, label_column="labl"),
    "no split": lambda p: named(p, name=str(p), split="tset"),
    "missing": lambda p: named(p, name=str(p / "none.parquet")),
}

BROKEN = {
    "cut parquet": "Cannot read the split",
    "no parquet": "Cannot read the split",
    "corrupt image": "Image 0 of column 'img' is missing or cannot be decoded",
    "cut image": "Image 0 of column 'img' is missing or cannot be decoded",
    "no image": "Image 0 of column 'img' is missing",
    "missing label": "must hold a class number from 0",
    "negative label": "must hold a class number from 0",
    "empty": "No image",
    "column": "Did you mean 'img'",
    "label column": "Did you mean 'label'",
    "no split": "No Parquet file of the split 'tset'",
    "missing": "No Parquet file",
}

FUNCTIONS = {
    "    return DataLoader(TensorDataset(torch.rand(4, 3)))": "not a `DataLoader`",
    "    return 3": "found a int",
    "    return iter([])": "found a list_iterator",
    "    return {'train': [1]}": "found a dict",
    "    return []": "is empty",
    "    return [(torch.rand(3), None)]": "have no label",
    "    return [torch.rand(3)]": "pairs of input and label, or mappings, found Tensor",
    "    return [(np.zeros(3), 1)]": "tensors or PIL images, found ndarray",
    "    return [('text', 1)]": "tensors or PIL images, found str",
    "    return 1 / 0": "ZeroDivisionError",
    "    raise ValueError('one\\ntwo')": "one two",
    "    class D:\n        def __len__(self): return 1\n        def __getitem__(self, i): 1 / 0\n    return D()": (
        "cannot be read: ZeroDivisionError"
    ),
    "    return type('D', (list,), {'__len__': lambda self: 1 // 0})()": "cannot tell its length: ZeroDivisionError",
}


class TestBadInput:
    @pytest.mark.parametrize("kind", BROKEN)
    def test_tables(self, tmp_path, kind):
        spec = MAKE[kind](tmp_path)
        with pytest.raises((DataError, UnknownNameError)) as found:
            load_source(spec, NORMALISED)
        assert BROKEN[kind] in str(found.value) and "\n" not in str(found.value)

    @pytest.mark.parametrize("body", FUNCTIONS)
    def test_functions(self, tmp_path, body):
        with pytest.raises(AmnestyError) as found:
            load_source(function(tmp_path, body), AS_THEY_ARE)
        assert FUNCTIONS[body] in str(found.value) and "\n" not in str(found.value)

    @pytest.mark.parametrize("example", ["torch.rand(3)", "Image.new('L', (4, 4))"])
    def test_an_example_that_cannot_be_read_is_named(self, tmp_path, example):
        body = (
            "    class D(list):\n"
            "        user = 'abcd'\n"
            "        def __getitem__(self, i): return super().__getitem__(i) if i < 2 else 1 / 0\n"
            f"    data = D([({example}, 1)] * 4)\n"
            "    data.targets, data.user = [1] * 4, list('abcd')\n"
            "    return data"
        )
        found = load_source(function(tmp_path, body), AS_THEY_ARE)
        assert read_column(found, "user").tolist() == list("abcd")  # facts are still found
        assert len(found[1][0]) in (1, 3)
        with pytest.raises(DataError, match=r"^Example 2 of .*mine.py:data cannot be read: ZeroDivisionError"):
            found[2]

    def test_labels_that_are_no_class_numbers(self, tmp_path):
        body = "    return type('D', (list,), {'targets': ['a'] * 4})([(torch.rand(3), 1)] * 4)"
        found = load_sources(DataSpec(training=function(tmp_path, body)))
        with pytest.raises(DataError, match="one class number an example, found <U1"):
            found.classes  # noqa: B018

    @pytest.mark.parametrize("bad", [{"size": (0, 3)}, {"channels": 2}, {"mean": (0.5,)}, {"std": (0.5,)}])
    def test_inputs(self, tmp_path, bad):
        with pytest.raises(InvalidInputError):
            load_source(parquet(tmp_path / "a.parquet", [0, 1]), InputsSpec(**bad))


def test_load_images_has_no_path_of_its_own(tmp_path):
    spec = parquet(tmp_path / "a.parquet", [0, 1])
    assert content_hash(load_source(spec, InputsSpec(channels=3))) == content_hash(load_images(spec.name))
