"""Whole runs of networks of timm and Hugging Face."""

import json

import pytest
import torch
from torch.nn.functional import cross_entropy

import amnesty
from amnesty.data import Examples
from amnesty.requests.again import datasets, reevaluated
from amnesty.requests.loaded import LoadedModel
from amnesty.requests.models import load_model
from amnesty.requests.pretrained import load_pretrained
from amnesty.requests.request import ModelSpec
from amnesty.requests.verifying import verify
from amnesty.weights import save_weights
from tests.requests.whole_runs import asked, names, read, run

vision = pytest.importorskip("tests.vision", reason="timm or torchvision is not installed")

HERE = "tests.requests.test_running_vision"
RECIPE = amnesty.Recipe(epochs=40, batch_size=20, lr=0.05, weight_decay=0.0)


def colours(seed, height, width, count=60):
    """One colour for each of three classes, with noise; named by the requests."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return Examples(
        torch.eye(3)[labels][:, :, None, None] + 0.3 * torch.randn(count, 3, height, width, generator=draw), labels
    )


def sources(height, width):
    size = {"height": height, "width": width}
    return {
        part: {"import": f"{HERE}:colours", "options": {"seed": seed, **size}}
        for part, seed in (("training", 1), ("holdout", 2))
    }


def test_a_network_of_timm(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = vision.library("timm").create_model("test_resnet", num_classes=3)
    save_weights(tmp_path / "timm.safetensors", amnesty.train(model, colours(1, 16, 16), RECIPE))
    spec = {"timm": "test_resnet", "weights": "timm.safetensors"}
    run(asked(tmp_path, model=spec, data=sources(16, 16), duplicates="keep"), tmp_path / "out")
    found = verify(tmp_path / "out", data=True, reevaluate=reevaluated, datasets=datasets)
    assert found.ok, found.text
    assert read(tmp_path / "out", "audit.json")["model"]["before"]["about"]["kind"] == "timm"


@pytest.fixture
def pretrained(tmp_path):
    """The folder of a small vision transformer that has learnt the colours."""
    transformers = pytest.importorskip("transformers", reason="the `clip` extra is not installed")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**small, image_size=(8, 6), patch_size=2, num_labels=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "untrained")
    loaded: LoadedModel = load_pretrained(tmp_path / "untrained")
    (tmp_path / "trained").mkdir()
    data, optimizer = colours(1, 8, 6), torch.optim.AdamW(loaded.model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        cross_entropy(loaded.model(data.images).logits, data.labels).backward()
        optimizer.step()
    return loaded.save(tmp_path / "trained", loaded.model)


def test_a_folder_of_hugging_face_becomes_another_one(tmp_path, pretrained):
    before = {path.name: path.read_bytes() for path in pretrained.iterdir()}
    model = {"huggingface": str(pretrained)}
    run(asked(tmp_path, name="first", model=model, data=sources(8, 6), duplicates="keep"), tmp_path / "first")
    assert {path.name: path.read_bytes() for path in pretrained.iterdir()} == before
    assert "model" in names(tmp_path / "first") and "model.safetensors" not in names(tmp_path / "first")
    assert {"config.json", "model.safetensors"} <= names(tmp_path / "first" / "model")
    files = read(tmp_path / "first", "audit.json")["files"]
    assert {"model/config.json", "model/model.safetensors"} <= files.keys()

    found = verify(tmp_path / "first", data=True, reevaluate=reevaluated, datasets=datasets)
    assert found.ok, found.text
    after = load_model(ModelSpec(kind="huggingface", name=str(tmp_path / "first" / "model"))).model
    assert after(colours(2, 8, 6).images).logits.shape == (60, 3)

    again = asked(tmp_path, name="second", model={"run": "first"}, data=None, forget={"indices": [30, 31, 32]})
    again.write_text(again.read_text() + "duplicates: keep\n")
    run(again, tmp_path / "second")
    assert [link["name"] for link in read(tmp_path / "second", "audit.json")["chain"]] == ["first"]
    assert verify(tmp_path / "second").ok
    assert json.loads((tmp_path / "second" / "model" / "config.json").read_text())["model_type"] == "vit"
