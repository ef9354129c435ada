"""The judge's word, against counting by hand; and which class a prompt asks for."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from amnesty.errors import InvalidInputError, ModelError, UnknownNameError
from amnesty.evaluation import Judge
from amnesty.evaluation.judging import probability_of, share, shows

LOGITS = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("among", [None, (0, 2, 5), (2,)])
def test_verdicts_are_those_of_counting_by_hand(among):
    kept = range(6) if among is None else among
    right, chance = [], []
    for row in LOGITS.double().tolist():
        exps = {c: math.exp(row[c]) for c in kept}
        right.append(max(exps, key=exps.get) == 2)
        chance.append(exps[2] / sum(exps.values()))
    assert shows(LOGITS, 2, among).tolist() == right
    np.testing.assert_allclose(probability_of(LOGITS, 2, among), chance, rtol=1e-12)


def test_a_constant_in_the_logits_changes_nothing():
    assert np.array_equal(shows(LOGITS + 1e3, 2), shows(LOGITS, 2))
    np.testing.assert_allclose(probability_of(LOGITS.double() + 1e3, 2), probability_of(LOGITS, 2), rtol=1e-9)


def test_shares_have_an_interval_at_the_ends_too():
    found = share(np.zeros(100, dtype=bool))
    assert found.value == 0 == found.low and 0.03 < found.high < 0.04


@pytest.mark.parametrize(("wanted", "among"), [(6, None), (-1, None), (1, (0, 6)), (1, (0, 2))])
def test_classes_that_are_not_there_are_refused(wanted, among):
    for function in (shows, probability_of):
        with pytest.raises(InvalidInputError, match=r"The judge knows the classes 0 to 5|leaves it out"):
            function(LOGITS, wanted, among)


NAMES = ("golf ball", "ball", "gas_pump", "church", "three")


class TestPrompts:
    @pytest.mark.parametrize(
        ("prompt", "wanted"),
        [
            ("a photo of a golf ball", 0),
            ("a Ball, on grass", 1),
            ("Image of gas pump", 2),
            ("image of a GAS-PUMP.", 2),
            ("a church", 3),
            (4, 4),
        ],
    )
    def test_ask_for_the_class_whose_name_they_hold(self, prompt, wanted):
        assert Judge(model=nn.Flatten(), names=NAMES).class_of(prompt) == wanted

    @pytest.mark.parametrize(("prompt", "says"), [("a churchyard", "no class"), ("a ball in a church", "2 classes")])
    def test_that_leave_it_open_are_refused(self, prompt, says):
        with pytest.raises(InvalidInputError, match=rf"the names? of {says}.*classes="):
            Judge(model=nn.Flatten(), names=NAMES).class_of(prompt)
        with pytest.raises(InvalidInputError, match="Nothing says so"):
            Judge(model=nn.Flatten()).class_of(prompt)

    def test_may_be_mapped(self):
        judge = Judge(
            model=nn.Flatten(), names=NAMES, classes={"a churchyard": "church", "a dog": None, 7: 1, "x": 4}
        )
        assert [judge.class_of(p) for p in ("a churchyard", "a dog", 7, "x", "three")] == [3, None, 1, 4, 4]

    def test_unknown_names_are_refused_at_once(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'church'"):
            Judge(model=nn.Flatten(), names=NAMES, classes={"a": "chruch"})
        with pytest.raises(UnknownNameError, match="class of the judge"):
            Judge(model=nn.Flatten(), among=("church",))
        with pytest.raises(InvalidInputError, match="must be a `torch.nn.Module`"):
            Judge(model="resnet50")


class TestLooking:
    def test_reads_8_bits_as_fractions_in_evaluation_mode(self):
        images = torch.randint(256, (100, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).train()
        right, chance = Judge(model=network, among=(0, 1, 3)).look(images, 1)
        plain = images.flatten(1).double() / 255
        assert right.tolist() == [row[1] > max(row[0], row[3]) or row[1] == row[3] > row[0] for row in plain.tolist()]
        np.testing.assert_allclose(chance, plain[:, [0, 1, 3]].softmax(1)[:, 1], rtol=1e-6)
        assert network.training and all(module.training for module in network.modules())

    def test_names_may_limit_it(self):
        judge = Judge(model=nn.Flatten(), names=NAMES[:4], among=("ball", 3))
        images = torch.tensor([[0.9, 0.5, 0.1, 0.4], [0.9, 0.2, 0.1, 0.4]]).view(2, 1, 2, 2)
        assert judge.look(images, 1)[0].tolist() == [True, False]

    @pytest.mark.parametrize(
        ("network", "says"),
        [
            (nn.Linear(5, 3), r"cannot take images of shape \[1, 2, 2\]: RuntimeError.*Resizing"),
            (nn.Identity(), r"shape \[3, K\], found \[3, 1, 2, 2\]"),
            (nn.Sequential(nn.Flatten(), nn.Threshold(2.0, math.nan)), "finite numbers"),
        ],
    )
    def test_networks_that_are_no_judges_are_named(self, network, says):
        with pytest.raises(ModelError, match=says):
            Judge(model=network).look(torch.zeros(3, 1, 2, 2), 0)
