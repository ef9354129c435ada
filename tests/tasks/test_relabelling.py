import torch
from torch.utils.data import ConcatDataset, DataLoader

import amnesty
from amnesty.data import Batches
from amnesty.tasks.relabelling import labelled_part, some_of_each
from tests import tiny


def test_a_shuffled_loader_has_the_labels_of_its_data():
    data = tiny.blobs(30)
    task = amnesty.Classification(tiny.mlp(), forget=DataLoader(data, batch_size=4, shuffle=True))
    found = labelled_part(task, "forget")
    assert found.labels.tolist() == data.labels.tolist()
    assert torch.equal(found[[3, 1]][0], data.images[[3, 1]])


def test_parts_of_mappings_can_be_joined_with_others():
    data = tiny.blobs(8)
    mapped = [{"image": image, "label": int(label)} for image, label in zip(data.images, data.labels, strict=True)]
    task = amnesty.Classification(tiny.mlp(), forget=mapped[:4], retain=data_of(data, 4))
    both = ConcatDataset([labelled_part(task, part) for part in ("forget", "retain")])
    ((inputs, labels),) = Batches(both, 8).iterate()
    assert torch.equal(inputs, data.images) and labels.tolist() == data.labels.tolist()


def data_of(data, start):
    return amnesty.data.Examples(data.images[start:], data.labels[start:])


def test_some_of_each_class():
    labels = torch.tensor([2, 0, 0, 2, 2, 5])
    found = some_of_each(labels, 2, torch.Generator().manual_seed(0))
    assert found == sorted(set(found)) and labels[found].bincount().tolist() == [2, 0, 2, 0, 0, 1]
    others = {tuple(some_of_each(labels, 2, torch.Generator().manual_seed(k))) for k in range(20)}
    assert len(others) == 3
