import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from amnesty import Classification
from amnesty.data import Examples
from amnesty.errors import ModelError
from amnesty.requests.knowing import check_knows

CLASSES = 4


class Says(nn.Module):
    """Answers with a class that stands in the input."""

    def __init__(self, change=lambda x: x):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.change = change

    def forward(self, x):
        answers = self.change(x[:, 0].long())
        return self.scale * nn.functional.one_hot(answers, CLASSES).float()


def task(right, count=400, change=lambda x: x, labels=None):
    """A model that is right on a share of the examples, and says a random class for the others."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (count,), generator=random) if labels is None else labels
    guesses = torch.randint(0, CLASSES, (len(labels),), generator=random)
    known = torch.rand(len(labels), generator=random) < right
    inputs = torch.stack([torch.where(known, labels, guesses), torch.arange(len(labels))], dim=1).float()
    data = Examples(inputs, labels)
    rows = range(len(labels))
    return Classification(Says(change), forget=Subset(data, rows[:20]), retain=Subset(data, rows[20:]))


@pytest.mark.parametrize("right", [1.0, 0.5, 0.3])
def test_a_model_that_knows_something_passes(right):
    assert check_knows(task(right)) == pytest.approx(right + (1 - right) / CLASSES, abs=0.08)


def test_a_model_that_guesses_is_refused():
    with pytest.raises(
        ModelError, match=r"right on 2\d\.\d\d% of 380 examples.*Likely causes: weights of another"
    ) as e:
        check_knows(task(0.0))
    assert "\n" not in str(e.value)


def test_a_model_that_always_says_the_commonest_class_is_refused():
    labels = (torch.arange(400) % 10 == 0).long()
    with pytest.raises(ModelError, match=r"right on 90\.\d\d% of 380 .* are right on 90"):
        check_knows(task(1.0, labels=labels, change=torch.zeros_like))
    assert check_knows(task(1.0, labels=labels)) == 1


def test_another_order_of_classes_is_recognised():
    with pytest.raises(ModelError, match="classes are in another order than in training"):
        check_knows(task(0.9, change=lambda x: (x + 1) % CLASSES))


def test_a_few_examples_are_no_test():
    assert check_knows(task(0.0, count=23)) < 0.8


def test_one_class_left_is_no_reason():
    labels = torch.cat([torch.ones(20), torch.zeros(100)]).long()
    assert check_knows(task(1.0, labels=labels)) == 1
    with pytest.raises(ModelError, match="right on 0.00%"):
        check_knows(task(1.0, labels=labels, change=lambda x: (x + 1) % CLASSES))


def test_no_more_are_read_than_are_needed(monkeypatch):
    from amnesty.requests import knowing

    monkeypatch.setattr(knowing, "_MOST", 50)
    with pytest.raises(ModelError, match="of 50 examples"):
        check_knows(task(0.0, count=3000))


def test_a_model_that_cannot_take_the_data_is_refused_before_it_is_asked():
    asked = task(1.0)
    asked.model.scale = nn.Parameter(torch.ones(CLASSES + 1))
    with pytest.raises(ModelError, match="cannot take"):
        check_knows(asked)


def test_a_number_of_classes_that_is_another():
    with pytest.raises(ModelError, match="tells 4 classes apart, but `model.classes` is 7"):
        check_knows(task(1.0), 7)
