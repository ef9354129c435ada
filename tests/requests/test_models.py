import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from amnesty.errors import AmnestyError, InvalidInputError, MissingExtraError, ModelError, UnknownNameError
from amnesty.requests.models import load_model, trace
from amnesty.requests.request import ModelSpec
from amnesty.weights import hash_weights, save_weights
from tests import tiny

vision = pytest.importorskip("tests.vision", reason="timm or torchvision is not installed")

SMALL = {"timm": "test_resnet", "torchvision": "squeezenet1_1"}  # 0.5 and 0.7 million weights


def made(kind, classes=3, **options):
    if kind == "timm":
        return vision.library("timm").create_model(SMALL[kind], num_classes=classes, **options)
    return vision.library("torchvision").models.get_model(SMALL[kind], weights=None, num_classes=classes, **options)


def spec(kind, weights, **more):
    return ModelSpec(kind=kind, name=more.pop("name", SMALL.get(kind, "")), weights=weights, **more)


def refused(asked, error=ModelError, classes=None):
    with pytest.raises(error) as found:
        load_model(asked, classes)
    assert isinstance(found.value, AmnestyError) and "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("kind", SMALL)
class TestLibraries:
    def test_weights_come_in(self, kind, tmp_path):
        model, path = made(kind), tmp_path / "a.safetensors"
        save_weights(path, model)
        path.chmod(0o444)
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        found = load_model(spec(kind, path), 3)
        assert hash_weights(found.model) == hash_weights(model)
        assert not any(module.training for module in found.model.modules())
        assert found.files == (path,) and found.classes == 3
        with torch.no_grad():
            for p in found.model.parameters():
                p.add_(1)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == before

    @pytest.mark.parametrize("told", [None, 3, 7])
    def test_the_number_of_classes_is_that_of_the_weights(self, kind, tmp_path, told):
        save_weights(tmp_path / "a.safetensors", made(kind, classes=7))
        found = load_model(spec(kind, tmp_path / "a.safetensors"), told)
        assert found.classes == 7
        assert found.model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)

    def test_unless_the_request_says_another(self, kind, tmp_path):
        save_weights(tmp_path / "a.safetensors", made(kind, classes=7))
        assert "seem to be for 7 classes" in refused(spec(kind, tmp_path / "a.safetensors", classes=3))

    def test_the_callers_random_numbers_stay(self, kind, tmp_path):
        save_weights(tmp_path / "a.safetensors", made(kind))
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        load_model(spec(kind, tmp_path / "a.safetensors"))
        assert torch.equal(torch.rand(3), expected)

    def test_is_saved_whole_and_comes_back(self, kind, tmp_path):
        save_weights(tmp_path / "a.safetensors", made(kind))
        found = load_model(spec(kind, tmp_path / "a.safetensors"))
        other = made(kind)
        path = found.save(tmp_path, other)
        assert path == tmp_path / "model.safetensors"
        assert hash_weights(load_model(spec(kind, path)).model) == hash_weights(other)
        assert found.describe["classes"] == 3 and found.describe["kind"] == kind
        assert found.describe["parameters"] > 10_000

    def test_refusals(self, kind, tmp_path):
        path = tmp_path / "a.safetensors"
        save_weights(path, made(kind))
        assert "`model.weights` is needed" in refused(spec(kind, None))
        assert f"{kind} has no architecture" in refused(spec(kind, path, name="no_such_net"))
        near = SMALL[kind].replace("e", "ee", 1)
        assert f"Did you mean {SMALL[kind]!r}" in refused(spec(kind, path, name=near))
        assert f"{kind} cannot make" in refused(spec(kind, path, options={"colour": 3}))
        for option in ("pretrained", "checkpoint_path", "weights", "num_classes", "pretrained_cfg"):
            assert f"cannot have '{option}'" in refused(spec(kind, path, options={option: "x"}))
        other = "resnet18" if kind == "torchvision" else "test_vit"
        assert "does not fit" in refused(spec(kind, path, name=other))
        assert "No such file" in refused(spec(kind, tmp_path / "none.safetensors"))

    def test_without_the_package_the_extra_is_named(self, kind, tmp_path, monkeypatch):
        import sys

        save_weights(tmp_path / "a.safetensors", tiny.conv_net())
        monkeypatch.setitem(sys.modules, kind, None)
        assert kind in refused(spec(kind, tmp_path / "a.safetensors"), MissingExtraError)


class TestNames:
    @pytest.mark.parametrize("name", ["hf_hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "hf-hub:x/y", "../resnet18"])
    def test_nothing_is_fetched(self, tmp_path, name):
        save_weights(tmp_path / "a.safetensors", tiny.conv_net())
        assert "timm has no architecture" in refused(spec("timm", tmp_path / "a.safetensors", name=name))

    def test_detectors_are_no_classifiers(self, tmp_path):
        save_weights(tmp_path / "a.safetensors", tiny.conv_net())
        asked = spec("torchvision", tmp_path / "a.safetensors", name="fcn_resnet50")
        assert "no architecture of classifiers" in refused(asked)

    def test_options_reach_the_architecture(self, tmp_path):
        save_weights(tmp_path / "a.safetensors", made("timm", in_chans=1))
        asked = spec("timm", tmp_path / "a.safetensors", options={"in_chans": 1})
        assert load_model(asked, 3).model(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
        assert "other options of the architecture" in refused(spec("timm", tmp_path / "a.safetensors"), classes=3)


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from tests import tiny\n\n"
        "def net(width=8, zero=False):\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(36, width), nn.BatchNorm1d(width), nn.Linear(width, 3))\n"
        "    if zero:\n"
        "        nn.init.zeros_(model[1].weight)\n"
        "    return model.train()\n\n"
        "def broken():\n"
        "    model = net()\n"
        "    nn.init.constant_(model[1].weight, float('nan'))\n"
        "    return model\n\n"
        "def lazy():\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))\n\n"
        "def empty():\n"
        "    return nn.Linear(36, 3, device='meta')\n\n"
        "def number():\n"
        "    return 3\n"
    )
    return f"{tmp_path}/mine.py"


class TestOnesOwn:
    def test_is_called_with_options(self, mine):
        found = load_model(spec("import", None, name=f"{mine}:net", options={"width": 5, "zero": True}))
        assert found.model[1].weight.shape == (5, 36) and not found.model[1].weight.any()
        assert not found.model.training and found.files == ()

    def test_the_same_every_time(self, mine):
        hashes = {hash_weights(load_model(spec("import", None, name=f"{mine}:net")).model) for _ in range(2)}
        assert len(hashes) == 1

    def test_takes_weights(self, mine, tmp_path):
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "a.pt")
        found = load_model(spec("import", tmp_path / "a.pt", name=f"{mine}:net"))
        assert hash_weights(found.model) == hash_weights(model) and found.files == (tmp_path / "a.pt",)

    def test_refusals(self, mine, tmp_path):
        def ask(name, **more):
            return spec("import", more.pop("weights", None), name=f"{mine}:{name}", **more)

        assert "must return a `torch.nn.Module`, found int" in refused(ask("number"), InvalidInputError)
        assert "Did you mean 'net'" in refused(ask("nett"), UnknownNameError)
        assert "TypeError" in refused(ask("net", options={"wdth": 3}), InvalidInputError)
        assert "'1.weight' are NaN or infinite" in refused(ask("broken"))
        assert "'1.weight': it is lazy" in refused(ask("lazy"))
        assert "no values yet, such as 'weight'" in refused(ask("empty"))
        (tmp_path / "cut.safetensors").write_bytes(b"\x20\x00")
        assert "cut short" in refused(ask("net", weights=tmp_path / "cut.safetensors"))


class TestEarlierRuns:
    def run(self, folder, model, name):
        folder.mkdir()
        text = f"model: {model}\ndata: {{training: {{images: pictures}}}}\nforget: {{classes: [a]}}\n"
        (folder / "request.yaml").write_text(text)
        network = tiny.mlp()
        with torch.no_grad():
            network[1].bias.fill_(name)
        save_weights(folder / "model.safetensors", network)
        return folder

    @pytest.fixture
    def chain(self, tmp_path):
        (tmp_path / "mine.py").write_text("from tests import tiny\n\ndef net():\n    return tiny.mlp()\n")
        first = self.run(tmp_path / "first", f"{{import: '{tmp_path}/mine.py:net', weights: gone.safetensors}}", 1)
        second = self.run(tmp_path / "second", "{run: ../first}", 2)
        return first, second, self.run(tmp_path / "third", "{run: ../second}", 3)

    def test_the_architecture_is_the_firsts_and_the_weights_are_the_lasts(self, chain):
        for number, folder in enumerate(chain, 1):
            found = load_model(ModelSpec(kind="run", name=str(folder)))
            assert (found.model[1].bias == number).all()
            assert found.files == (folder / "model.safetensors",)
            assert found.chain == tuple(reversed(chain[:number]))
            assert found.spec.kind == "import"
        assert found.describe["chain"] == [str(folder) for folder in reversed(chain)]

    def test_saved_like_the_first(self, chain, tmp_path):
        found = load_model(ModelSpec(kind="run", name=str(chain[1])))
        assert found.save(tmp_path, found.model) == tmp_path / "model.safetensors"

    def test_refusals(self, chain, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "is no finished run" in refused(ModelSpec(kind="run", name=str(tmp_path / "empty")))
        (chain[0] / "request.yaml").write_text(
            "model: {run: ../third}\ndata: {training: {images: pictures}}\nforget: {classes: [a]}\n"
        )
        assert "lead back to" in refused(ModelSpec(kind="run", name=str(chain[2])))
        (chain[0] / "request.yaml").write_text("model: 7\n")
        refused_by = pytest.raises(InvalidInputError)
        with refused_by:
            load_model(ModelSpec(kind="run", name=str(chain[2])))
        (chain[0] / "request.yaml").unlink()
        with pytest.raises((OSError, AmnestyError)):
            load_model(ModelSpec(kind="run", name=str(chain[2])))

    def test_others_are_their_own_origin(self):
        asked = ModelSpec(kind="timm", name="resnet18", weights=Path("a"))
        assert trace(asked) == (asked, [])
