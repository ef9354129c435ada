import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from amnesty.requests.aside import set_aside
from tests import tiny


def resident(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


@pytest.mark.parametrize("make", tiny.MODELS.values(), ids=tiny.MODELS)
def test_it_is_the_same_model_meanwhile_and_afterwards(tmp_path, make):
    model, images = make().eval(), tiny.blobs(8).images
    before, said, ids = tiny.weights(model), model(images), [id(p) for p in model.parameters()]
    with set_aside(model, tmp_path / "original") as let_go:
        assert (tmp_path / "original").stat().st_size >= sum(p.nbytes for p in model.parameters())
        for _ in range(2):
            let_go()
            assert tiny.same(before, tiny.weights(model)) and torch.equal(model(images), said)
        assert tiny.same(before, tiny.weights(copy.deepcopy(model)))
    assert tiny.same(before, tiny.weights(model)) and [id(p) for p in model.parameters()] == ids
    assert not (tmp_path / "original").exists()
    with torch.no_grad():
        next(model.parameters()).add_(1)  # it is in memory again


def test_an_error_puts_it_back(tmp_path):
    model = tiny.conv_net()
    before = tiny.weights(model)
    with pytest.raises(ZeroDivisionError), set_aside(model, tmp_path / "original"):
        raise ZeroDivisionError
    assert tiny.same(before, tiny.weights(model)) and not (tmp_path / "original").exists()


def test_a_disk_without_room_leaves_the_model_as_it_was(tmp_path):
    model = tiny.conv_net()
    before = tiny.weights(model)
    with pytest.raises(OSError, match="No such file"), set_aside(model, tmp_path / "nowhere" / "original"):
        raise AssertionError
    assert tiny.same(before, tiny.weights(model))


def test_shared_and_scattered_tensors_stay_in_memory(tmp_path):
    model = nn.Module()
    weight = torch.randn(6, 4)
    model.whole, model.part = nn.Parameter(weight), nn.Parameter(weight[:3])
    model.turned = nn.Parameter(torch.randn(4, 6).T)
    model.last = nn.Parameter(torch.randn(5, 5).to(torch.bfloat16))
    model.register_buffer("empty", torch.zeros(0))
    before = tiny.weights(model)
    with set_aside(model, tmp_path / "original"):
        assert (tmp_path / "original").stat().st_size == 50  # the last one's
        assert model.part.data_ptr() == model.whole.data_ptr()
        assert tiny.same(before, tiny.weights(model))
    assert tiny.same(before, tiny.weights(model)) and model.part.data_ptr() == model.whole.data_ptr()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell its memory")
def test_it_needs_no_memory_meanwhile(tmp_path):
    # In a process of its own: what this one frees may stay with it, after all that it has held.
    code = f"from tests.requests.test_aside import measure; measure({str(tmp_path)!r})"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def measure(folder: str) -> None:
    model = nn.Linear(4096, 2048, bias=False)  # 32 MiB
    before, value = resident("VmRSS"), model.weight[7, 7].item()
    with set_aside(model, Path(folder) / "original") as let_go:
        let_go()
        assert before - resident("VmRSS") > 20 * 1024
        assert model.weight.sum().isfinite()
        assert before - resident("VmRSS") < 12 * 1024  # what is read is there
        let_go()
        assert before - resident("VmRSS") > 20 * 1024 and model.weight[7, 7].item() == value
