import re

import numpy as np
import pytest
import torch

from amnesty import Classification
from amnesty.data import Column
from amnesty.methods import MUNBa
from amnesty.requests import example as made
from amnesty.requests.checking import read_request
from amnesty.requests.vocabulary import FORGET, MODEL, SECTIONS, SOURCE
from amnesty.training import Recipe
from tests.requests.writing import write


@pytest.fixture
def found(tmp_path):
    return read_request(write(tmp_path, made.example()))


def test_it_is_read_as_it_is(found):
    assert found.method == MUNBa() and not found.tuned
    assert found.model.name == "amnesty.requests.example:model" and found.out.name == "example-unlearned"


def test_it_tells_of_every_section_and_every_choice():
    for key in SECTIONS:
        assert re.search(rf"^(# )?{key}:", made.example(), re.MULTILINE), key
    for kinds in (MODEL, SOURCE, FORGET):
        for kind in kinds:
            assert f"{kind}:" in made.example()


def test_what_is_commented_out_is_right_where_it_stands(tmp_path):
    opened = re.sub(r"^  # ", "  ", made.example(), flags=re.MULTILINE)
    opened = re.sub(r"^# (?=(reference|trackers|sign|out): )", "", opened, flags=re.MULTILINE)
    found = read_request(write(tmp_path, opened), look=False)
    assert found.model.classes == 10 and found.model.options == {"in_chans": 1} and found.model.weights
    assert found.data.inputs.size == (224, 224) and found.data.inputs.channels == 3 and found.data.inputs.std
    assert found.reference and found.sign and found.trackers and found.duplicates.threshold == 0.98
    assert found.out == tmp_path / "result"


def test_what_it_tells_of_words_is_right_where_it_stands(tmp_path):
    opened = re.sub(r"^# (?=(zero_shot:|  ))", "", made.example(), flags=re.MULTILINE)
    section = opened[opened.index("zero_shot:\n") :].partition("\n\n")[0]
    rest = "task: zero-shot\nmodel: {huggingface: clip}\ndata: {training: {images: i}}\nforget: {classes: [cat]}\n"
    found = read_request(write(tmp_path, rest + section), look=False).zero_shot
    assert found.lora == 4 and found.retain_loss == ("ce", "distill") and found.bank == tmp_path / "texts.txt"
    assert list(found.transfers) == ["cars"] and found.class_names == ("cat", "dog") and found.captions


def test_what_it_names_is_there(found):
    training, holdout = made.training(), made.holdout()
    assert (len(training), len(holdout)) == (1348, 449)
    overlap = {x.numpy().tobytes() for x in training.images} & {x.numpy().tobytes() for x in holdout.images}
    assert len(overlap) == 0
    chosen = found.forget["forget"].select(training, np.arange(len(training)))
    assert 80 < len(chosen) < 150
    assert set(training.labels[chosen].tolist()) == {3}
    assert len(Column("user", ["user-07", "user-19"]).select(training, np.arange(len(training)))) > 30


def test_its_model_is_the_same_every_time_and_learns_its_data(monkeypatch):
    monkeypatch.setattr(made.digits, "RECIPE", Recipe(epochs=2, batch_size=64))  # a tenth, which will do here
    first, second, holdout = made.model(), made.model(), made.holdout()
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    Classification(first, forget=made.training(), holdout=holdout).check()
    inputs, labels = holdout[list(range(len(holdout)))]
    with torch.no_grad():
        assert (first(inputs).argmax(dim=1) == labels).double().mean() > 0.8
