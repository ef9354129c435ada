import hashlib

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from amnesty.data import (
    Examples,
    batch_hashes,
    class_names,
    content_hash,
    example_hash,
    input_and_label,
    known_columns,
    read_column,
)
from amnesty.data.examples import reads_batches
from amnesty.errors import DataError, SplitError, UnknownNameError

NAMES = ("cat", "dog", "fox")


def pictures(n=6, seed=0):
    return torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def examples(n=6, **more):
    return Examples(pictures(n), torch.arange(n) % 3, NAMES, {"user_id": [f"u{i % 2}" for i in range(n)]}, **more)


class Pairs(Dataset):
    """A data set that somebody else wrote: examples one by one, and nothing more."""

    def __init__(self, n=6):
        self.images, self.numbers = pictures(n).float(), [i % 3 for i in range(n)]

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, i):
        return self.images[i], self.numbers[i]


class Vision(Pairs):
    """As torchvision's."""

    classes = ("cat", "dog", "fox")
    root = "six!!!"

    def __init__(self, n=6):
        super().__init__(n)
        self.targets = list(self.numbers)
        self.session = torch.arange(n) // 2


class Flipped(Subset):
    """The usual way to augment one part of a data set: one example at a time."""

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        assert image.dim() == 3
        return image.flip(-1), label

    def __getitems__(self, indices):
        return [self[i] for i in indices]


def huggingface(n=6, **columns):
    datasets = pytest.importorskip("datasets", reason="the `data` extra is not installed")
    features = datasets.Features(
        {
            "img": datasets.Sequence(datasets.Value("float32")),
            "label": datasets.ClassLabel(names=list(NAMES)),
            "fine_label": datasets.ClassLabel(names=["tom", "kitty"]),
            "user_id": datasets.Value("string"),
        }
    )
    content = {
        "img": [[float(i), 1.0] for i in range(n)],
        "label": [i % 3 for i in range(n)],
        "fine_label": [i % 2 for i in range(n)],
        "user_id": [f"u{i % 2}" for i in range(n)],
    }
    return datasets.Dataset.from_dict(content, features=features)


class TestExamples:
    def test_bytes_become_floats_from_0_to_1(self):
        image, _ = Examples(torch.tensor([[0, 51, 255]], dtype=torch.uint8), torch.tensor([0]))[0]
        torch.testing.assert_close(image, torch.tensor([0.0, 0.2, 1.0]))
        assert image.dtype == torch.float32

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_floats_are_handed_out_as_they_are(self, dtype):
        images = torch.randn(3, 2).to(dtype)
        assert Examples(images, torch.arange(3))[[0, 1, 2]][0].equal(images)

    def test_reading_does_not_change_the_images(self):
        data = examples()
        before = data.images.clone()
        data[[0, 1]][0].add_(1)
        assert data.images.equal(before)

    def test_a_batch_is_its_examples(self):
        data = examples()
        images, labels = data[[4, 1]]
        assert images.equal(torch.stack([data[4][0], data[1][0]]))
        assert labels.tolist() == [1, 1]

    def test_relabelled_keeps_the_true_labels(self):
        data = examples()
        once = data.relabelled((data.labels + 1) % 3)
        twice = once.relabelled((data.labels + 2) % 3)
        for wrong in (once, twice):
            assert read_column(wrong, "true_label").tolist() == data.labels.tolist()
            assert read_column(wrong, "user_id").tolist() == data.columns["user_id"].tolist()
            assert wrong.class_names == NAMES
        assert twice.labels.tolist() == ((data.labels + 2) % 3).tolist()

    def test_a_column_may_hold_lists_of_different_lengths(self):
        data = Examples(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), columns={"boxes": [[1], [1, 2]]})
        assert read_column(data, "boxes").tolist() == [[1], [1, 2]]

    @pytest.mark.parametrize(
        ("images", "labels", "columns", "says"),
        [
            (torch.zeros(3, 1), torch.arange(2), None, "equally many.*'images': 3, 'labels': 2"),
            (torch.zeros(2, 1), torch.arange(2), {"user": ["a"]}, "equally many.*user.*1"),
            (torch.zeros(2, 1), torch.zeros(2), None, "integers.*float32"),
            (torch.zeros(2, 1), torch.zeros(2, 3, dtype=torch.int64), None, r"shape \[n\].*\[2, 3\]"),
            (torch.zeros(2, 1), torch.tensor(1), None, r"shape \[n\].*\[\]"),
        ],
    )
    def test_refuses_what_does_not_fit_together(self, images, labels, columns, says):
        with pytest.raises(DataError, match=says):
            Examples(images, labels, columns=columns)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (examples(), True),
        (TensorDataset(torch.zeros(3)), True),
        (Subset(Subset(examples(), range(4)), range(2)), True),
        (Pairs(), False),
        (Flipped(examples(), range(4)), False),
        (Subset(Flipped(examples(), range(4)), range(2)), False),
        (Subset(Pairs(), range(2)), False),
        (ConcatDataset([examples(), Subset(examples(), [1])]), True),
        (ConcatDataset([examples(), Pairs()]), False),
        (Subset(ConcatDataset([examples(), examples()]), range(9)), True),
    ],
)
def test_only_what_reads_lists_of_indices_is_read_so(dataset, expected):
    assert reads_batches(dataset) is expected


class TestReadColumn:
    @pytest.mark.parametrize("make", [examples, Pairs, Vision, huggingface])
    def test_labels_of_any_kind_of_data_set(self, make):
        assert read_column(make(), "label").tolist() == [0, 1, 2, 0, 1, 2]

    def test_labels_of_a_tensor_data_set_are_its_last_tensor(self):
        data = TensorDataset(torch.zeros(3, 2), torch.zeros(3), torch.tensor([2, 0, 1]))
        assert read_column(data, "label").tolist() == [2, 0, 1]

    @pytest.mark.parametrize("make", [examples, huggingface])
    def test_columns(self, make):
        assert read_column(make(), "user_id").tolist() == ["u0", "u1"] * 3

    def test_attributes(self):
        assert read_column(Vision(), "session").tolist() == [0, 0, 1, 1, 2, 2]

    @pytest.mark.parametrize("make", [examples, Pairs, Vision, huggingface])
    def test_parts_of_parts_and_joined_sets(self, make):
        part = Subset(Subset(make(), [5, 3, 1, 0]), [0, 2])
        assert read_column(part, "label").tolist() == [2, 1]
        joined = Subset(ConcatDataset([part, make()]), [1, 2, 3])
        assert read_column(joined, "label").tolist() == [1, 0, 1]

    @pytest.mark.parametrize("make", [examples, huggingface])
    def test_an_unknown_column_is_answered_with_the_nearest(self, make):
        for data in (make(), Subset(make(), [0]), ConcatDataset([make(), make()])):
            with pytest.raises(UnknownNameError, match=r"'user_idd'. Did you mean 'user_id'\? Known: .*label"):
                read_column(data, "user_idd")

    @pytest.mark.parametrize("name", ["usr", "root", "__len__"])
    def test_what_is_not_one_fact_per_example_is_no_column(self, name):
        with pytest.raises(UnknownNameError, match="column"):
            read_column(Vision(), name)

    def test_a_column_of_another_length_is_refused(self):
        data = Vision()
        data.session = [1, 2]
        with pytest.raises(DataError, match="2 entries for 6 examples"):
            read_column(data, "session")

    def test_examples_without_labels(self):
        with pytest.raises(DataError, match="No labels found"):
            read_column([1.0, 2.0], "label")

    @pytest.mark.parametrize("error", [ValueError("gone\nfor good"), OSError("gone\nfor good"), KeyError("gone")])
    def test_examples_that_cannot_be_read(self, error):
        class Failing(Pairs):
            def __getitem__(self, index):
                if index == 2:
                    raise error
                return super().__getitem__(index)

        with pytest.raises(DataError, match=r"^Example 2 of a Failing cannot be read: \w+: .?gone( for good)?.?$"):
            read_column(Failing(), "label")

    def test_a_transform_that_needs_other_columns_is_left_out(self):
        data = huggingface()
        data.set_transform(lambda rows: {"img": [torch.tensor(x) for x in rows["img"]], "label": rows["label"]})
        assert read_column(data, "label").tolist() == [0, 1, 2, 0, 1, 2]
        assert read_column(data, "user_id").tolist() == ["u0", "u1"] * 3
        assert isinstance(data[0]["img"], torch.Tensor)  # the caller's transform is as it was

    def test_known_columns(self):
        assert known_columns(examples()) == ["user_id", "label"]
        assert known_columns(huggingface()) == ["img", "label", "fine_label", "user_id"]
        assert known_columns(Pairs()) == ["label"]


class TestClassNames:
    @pytest.mark.parametrize("make", [examples, Vision, huggingface])
    def test_are_found_through_parts_and_joined_sets(self, make):
        for data in (make(), Subset(Subset(make(), [0, 1]), [0]), ConcatDataset([make(), Subset(make(), [0])])):
            assert class_names(data) == NAMES

    def test_are_none_where_nobody_knows(self):
        assert class_names(Pairs()) is None
        assert class_names(TensorDataset(torch.zeros(1))) is None
        assert class_names(ConcatDataset([Vision(), Pairs()])) is None

    def test_a_number_of_classes_is_no_name(self):
        data = Pairs()
        data.classes = 3
        assert class_names(data) is None

    def test_belong_to_their_column(self):
        assert class_names(huggingface(), "fine_label") == ("tom", "kitty")
        assert class_names(Subset(huggingface(), [0]), "fine_label") == ("tom", "kitty")
        assert class_names(huggingface(), "user_id") is None
        assert class_names(examples(), "user_id") is None


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ((1, 2), (1, 2)),
        ([1, 2, 3], (1, 2)),
        ({"img": 1, "label": 2, "x": 3}, (1, 2)),
        ({"pixel_values": 1, "labels": 2}, (1, 2)),
        ({"text": 1, "label": 2}, (None, 2)),
        ((1,), (None, None)),
        (1, (None, None)),
    ],
)
def test_input_and_label(example, expected):
    assert input_and_label(example) == expected


class TestHashes:
    def test_of_an_example_by_hand(self):
        image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
        assert example_hash(image, 7) == hashlib.sha256(b"|u1(2, 2)7\x01\x02\x03\x04").digest()

    def test_do_not_depend_on_layout_or_on_who_holds_the_image(self):
        image = torch.randn(3, 4, 5)
        expected = example_hash(image, 1)
        assert example_hash(image.permute(2, 0, 1).contiguous().permute(1, 2, 0), torch.tensor(1)) == expected
        assert example_hash(image.numpy(), np.int64(1)) == expected
        assert example_hash(image.clone().requires_grad_(), 1) == expected

    @pytest.mark.parametrize("other", [torch.zeros(4), torch.zeros(2, 2, dtype=torch.float64), torch.ones(2, 2)])
    def test_know_shape_type_and_values(self, other):
        assert example_hash(other, 0) != example_hash(torch.zeros(2, 2), 0)
        assert example_hash(other, 0) != example_hash(other, 1)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3, 3)])
    def test_of_a_batch_are_those_of_its_examples(self, dtype, shape):
        images, labels = (torch.rand(shape) * 9).to(dtype), torch.arange(5)
        expected = [example_hash(image, label) for image, label in zip(images, labels, strict=True)]
        assert batch_hashes(images, labels) == expected
        assert len(set(expected)) == 5

    def test_of_objects_are_refused(self):
        with pytest.raises(DataError, match="numbers"):
            example_hash([[1], [2, 3]], 0)


class TestContentHash:
    def test_does_not_depend_on_order(self):
        data = examples()
        assert content_hash(Subset(data, [3, 1, 0, 5, 4, 2])) == content_hash(data)

    def test_sees_a_pixel_a_label_a_missing_and_a_repeated_example(self):
        data = examples()
        pixel = Examples(data.images.clone(), data.labels)
        pixel.images[3, 0, 0, 0] ^= 1
        label = Examples(data.images, data.labels.clone())
        label.labels[3] ^= 1
        others = [pixel, label, Subset(data, range(5)), Subset(data, [0, 1, 2, 3, 4, 5, 5])]
        assert len({content_hash(d) for d in [data, *others]}) == 5

    def test_is_the_same_for_the_same_content_elsewhere(self):
        data = examples()
        images, labels = data[list(range(6))]
        as_rows = [{"label": int(y), "img": x} for x, y in zip(images, labels, strict=True)]
        assert content_hash(TensorDataset(images, labels)) == content_hash(data) == content_hash(as_rows)

    def test_of_a_hugging_face_data_set(self):
        data = huggingface()
        assert content_hash(data) == content_hash(data.select([5, 4, 3, 2, 1, 0])) != content_hash(data.select([0]))

    def test_refuses_what_is_empty_or_has_no_labels(self):
        with pytest.raises(SplitError, match="empty"):
            content_hash(Subset(examples(), []))
        with pytest.raises(DataError, match="pairs or mappings"):
            content_hash([{"img": torch.zeros(1)}])
