import time

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from amnesty.data import Examples, example_hash
from amnesty.errors import DataError, SplitError
from amnesty.tasks.inspection import inspect, refuse_duplicates
from amnesty.tasks.labelled import unpack

from .samples import numbered


def images(n=300, dtype=torch.float32):
    return torch.rand(n, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)


def look(source, **more):
    return inspect("forget", source, unpack, **more)


class TestInspect:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
    def test_reads_labels_hashes_and_a_probe_in_order(self, dtype):
        pixels, labels = (images() * 99).to(dtype), torch.arange(300) % 5
        found = look(TensorDataset(pixels, labels))
        assert found.labels.equal(labels)
        assert found.hashes == tuple(example_hash(x, y) for x, y in zip(pixels, labels, strict=True))
        assert found.probe.equal(pixels[:2])

    def test_does_without_hashes(self):
        assert look(TensorDataset(images(), torch.arange(300)), hashed=False).hashes == ()

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("where", [0, 1, 255, 299])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_names_the_example_that_is_not_finite(self, bad, where, dtype):
        pixels = images(dtype=dtype)
        pixels[where, 1, 2] = bad
        with pytest.raises(DataError, match=f"Example {where} of the forget set holds NaN or infinity"):
            look(TensorDataset(pixels, torch.zeros(300, dtype=torch.int64)))

    def test_huge_pixels_are_finite(self):
        pixels = torch.full((300, 4), torch.finfo(torch.float32).max)  # their sum is not
        assert len(look(TensorDataset(pixels, torch.arange(300))).labels) == 300

    def test_refuses_examples_of_another_shape(self):
        ragged = [(torch.zeros(3, 4, 4), 0), (torch.zeros(3, 4, 5), 1)]
        with pytest.raises(DataError, match="forget set cannot be put into one batch.*equal size"):
            look(ragged)

    def test_refuses_a_batch_of_another_shape(self):
        ragged = DataLoader([(torch.zeros(3, 4, 4), 0)] * 3 + [(torch.zeros(3, 4, 5), 1)], batch_size=1)
        with pytest.raises(DataError, match=r"different shapes: \[3, 4, 4\] and, from example 3 on, \[3, 4, 5\]"):
            look(ragged)

    def test_refuses_images_that_are_not_tensors(self):
        with pytest.raises(DataError, match="cannot be put into one batch"):
            look([(object(), 0)])

    def test_refuses_a_loader_that_gives_nothing(self):
        class Silent(DataLoader):
            def __iter__(self):
                return iter(())

        with pytest.raises(SplitError, match="gave no batch"):
            look(Silent(numbered([0], [0])))

    def test_looks_at_thousands_of_images_in_seconds(self):
        """50,000 CIFAR images take some 3 s on one core; a tenth of them, with a margin for slow machines."""
        data = Examples(torch.randint(0, 256, (5000, 3, 32, 32), dtype=torch.uint8), torch.arange(5000) % 10)
        start = time.process_time()
        look(data)
        assert time.process_time() - start < 3


class TestLabels:
    @pytest.mark.parametrize(("label", "classes"), [(-1, 5), (5, 5), (99, 5), (4, 4)])
    def test_outside_the_classes_are_refused(self, label, classes):
        found = look(numbered(range(4), [0, 1, label, 2]))
        with pytest.raises(DataError, match=f"1 labels .* {classes} classes, such as {label} of example 2"):
            found.check_labels(classes)

    def test_inside_are_not(self):
        look(numbered(range(4), [0, 1, 4, 2])).check_labels(5)


class TestDuplicates:
    def test_the_same_content_in_two_data_sets_is_refused(self):
        forget, retain = numbered([1, 2, 3], [0, 0, 0]), numbered([9, 3, 8], [0, 0, 0])
        with pytest.raises(SplitError, match=r"1 of 3 .* forget 2 = retain 1.*duplicates='keep'"):
            refuse_duplicates(look(forget), look(retain))

    def test_bytes_and_floats_that_are_handed_out_alike_are_the_same(self):
        pixels, labels = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8), torch.arange(4)
        with pytest.raises(SplitError, match="4 of 4"):
            refuse_duplicates(look(Examples(pixels, labels)), look(Examples(pixels.float() / 255, labels)))

    def test_the_same_image_under_another_label_is_another_example(self):
        refuse_duplicates(look(numbered([1, 2], [0, 0])), look(numbered([1, 2], [1, 1])))

    def test_repeats_within_a_part_are_no_overlap(self):
        refuse_duplicates(look(numbered([1, 1], [0, 0])), look(numbered([2, 2], [0, 0])))
