import importlib.util

import pytest

from amnesty.requests.checking import read_request
from amnesty.requests.faults import RequestError
from tests import vision  # noqa: F401  # without which timm and torchvision may not load
from tests.requests.writing import furnish, request, write


def read(folder, look=True, **sections):
    furnish(folder)
    return read_request(write(folder, request(**sections)), look=look)


@pytest.mark.parametrize(
    ("library", "name"), [("timm", "resnet18"), ("timm", "resnet18.a1_in1k"), ("torchvision", "resnet18")]
)
def test_architectures_that_there_are(tmp_path, library, name):
    pytest.importorskip(library)
    assert read(tmp_path, model=f"model: {{{library}: {name}, weights: m.pt}}").model.name == name


@pytest.mark.parametrize(
    ("library", "name", "said"),
    [
        ("timm", "resnt18", "must be an architecture of timm, found 'resnt18'. Did you mean 'resnet18"),
        ("timm", "hf-hub:someone/something", "must be an architecture of timm"),
        ("torchvision", "resnet8", "Did you mean 'resnet18'"),
        ("torchvision", "fcn_resnet50", "must be an architecture of torchvision"),  # which tells pixels apart
    ],
)
def test_architectures_that_there_are_not(tmp_path, library, name, said):
    pytest.importorskip(library)
    with pytest.raises(RequestError) as found:
        read(tmp_path, model=f"model:\n  {library}: {name}\n  weights: m.pt")
    (fault,) = found.value.faults
    assert "request.yaml:2: " in fault and said in fault


@pytest.mark.parametrize(
    "option", ["pretrained: true", "checkpoint_path: evil.pt", "num_classes: 3", "pretrained_cfg: {file: evil.pt}"]
)
def test_options_that_would_load_something_else_are_refused(tmp_path, option):
    with pytest.raises(RequestError, match="cannot be given: weights and classes are"):
        read(tmp_path, look=False, model=f"model: {{timm: resnet18, weights: m.pt, options: {{{option}}}}}")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_architectures_need_weights(tmp_path, library):
    with pytest.raises(RequestError, match="`model.weights` is missing"):
        read(tmp_path, look=False, model=f"model: {{{library}: resnet18}}")


@pytest.mark.parametrize(
    ("package", "extra", "section"),
    [
        ("timm", "vision", {"model": "model: {timm: resnet18, weights: m.pt}"}),
        ("torchvision", "vision", {"model": "model: {torchvision: resnet18, weights: m.pt}"}),
        ("transformers", "clip", {"model": "model: {huggingface: hf}"}),
        ("datasets", "data", {"data": "data: {training: {parquet: train.parquet}}"}),
        ("datasets", "data", {"data": "data: {training: {huggingface: uoft-cs/cifar10}}"}),
        ("PIL", "data", {"data": "data: {training: {images: images}}"}),
        ("model_signing", "sign", {"sign": "sign: {sigstore: true}"}),
    ],
)
def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch, package, extra, section):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else real(name, *rest)
    )
    with pytest.raises(RequestError) as found:
        read(tmp_path, **section)
    (fault,) = found.value.faults
    assert f"pip install 'amnesty[{extra}]'" in fault


def test_a_library_that_does_not_load_says_so(tmp_path, monkeypatch):
    def broken(name):
        raise RuntimeError(f"operator of {name} does not exist\nand more")

    monkeypatch.setattr("amnesty.requests.presence.importlib.import_module", broken)
    with pytest.raises(RequestError, match="timm does not load: operator of timm does not exist and more") as found:
        read(tmp_path, model="model: {timm: resnet18, weights: m.pt}")
    assert len(found.value.faults) == 1


def test_a_module_in_the_current_folder_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path)
    assert read_request(write(tmp_path, request(model="model: {import: 'mine:made'}"))).model.name == "mine:made"


def test_nothing_that_is_named_is_imported_or_read(tmp_path):
    furnish(tmp_path)
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    write(tmp_path, request(model="model: {import: 'mine.py:made', weights: m.pt}"))
    read_request(tmp_path / "request.yaml")
    assert not (tmp_path / "ran").exists()
