import io
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from amnesty.errors import ModelError
from amnesty.weights import hash_tensors, hash_weights, load_weights, read_state, save_weights
from tests import tiny


def zeroed():
    model = tiny.conv_net()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    return model


def refused(path, model=None):
    model = zeroed() if model is None else model
    before = tiny.weights(model)
    with pytest.raises(ModelError) as found:
        load_weights(path, model)
    assert tiny.same(before, tiny.weights(model))
    message = str(found.value)
    assert "\n" not in message and str(path) in message
    return message


def saved(path, content):
    torch.save(content, path)
    return path


class TestTravelling:
    @pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "legacy.pth", "safetensors.bin"])
    def test_weights_come_back(self, tmp_path, name):
        model, path = tiny.conv_net(), tmp_path / name
        if "safetensors" in name:
            save_weights(path, model)
        else:
            torch.save(model.state_dict(), path, _use_new_zipfile_serialization="legacy" not in name)
        other = zeroed()
        load_weights(path, other)
        assert tiny.same(tiny.weights(model), tiny.weights(other))

    def test_others_may_read_what_they_may_read_elsewhere(self, tmp_path):
        save_weights(tmp_path / "a.safetensors", tiny.conv_net())
        (tmp_path / "b").touch()
        assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode

    def test_tied_weights_travel(self, tmp_path):
        def tied():
            model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
            model[1].weight = model[0].weight
            return model

        model, other = tied(), tied()
        save_weights(tmp_path / "tied.safetensors", model)
        load_weights(tmp_path / "tied.safetensors", other)
        assert torch.equal(other[1].weight, model[0].weight) and other[0].weight is other[1].weight

    @pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
    def test_a_training_scripts_wrapper_is_seen_through(self, tmp_path, key):
        path = saved(tmp_path / "a.pt", {key: tiny.conv_net().state_dict(), "epoch": 7, "optimizer": {"state": {}}})
        model = zeroed()
        load_weights(path, model)
        assert tiny.same(tiny.weights(tiny.conv_net()), tiny.weights(model))

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
    def test_prefixes_of_wrapped_modules_are_dropped(self, tmp_path, prefix):
        state = {prefix + name: value for name, value in tiny.conv_net().state_dict().items()}
        save_file(state, tmp_path / "a.safetensors")
        model = zeroed()
        load_weights(tmp_path / "a.safetensors", model)
        assert tiny.same(tiny.weights(tiny.conv_net()), tiny.weights(model))

    def test_a_network_whose_own_names_have_the_prefix_keeps_them(self, tmp_path):
        model = nn.ModuleDict({"module": nn.Linear(2, 2)})
        save_weights(tmp_path / "a.safetensors", model)
        other = nn.ModuleDict({"module": nn.Linear(2, 2)})
        load_weights(tmp_path / "a.safetensors", other)
        assert torch.equal(other["module"].weight, model["module"].weight)

    def test_half_precision_is_widened(self, tmp_path):
        save_weights(tmp_path / "half.safetensors", tiny.conv_net().half())
        model = zeroed()
        load_weights(tmp_path / "half.safetensors", model)
        assert model[0].weight.dtype == torch.float32
        torch.testing.assert_close(model[0].weight, tiny.conv_net()[0].weight, atol=1e-3, rtol=0)

    def test_a_mask_of_minus_infinity_is_part_of_a_network(self, tmp_path):
        def masked():
            model = nn.Linear(2, 2)
            model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
            return model

        save_weights(tmp_path / "a.safetensors", masked())
        load_weights(tmp_path / "a.safetensors", masked())

    def test_the_file_is_only_read(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save_weights(path, tiny.conv_net())
        path.chmod(0o444)
        before = path.read_bytes(), path.stat().st_mtime_ns
        model = zeroed()
        load_weights(path, model)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1)
        for value in read_state(path).values():
            value.zero_()  # the file is not mapped into memory so that this would reach it
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]

    def test_writing_fails_whole(self, tmp_path, monkeypatch):
        from amnesty.weights import files

        def full(tensors, path):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        save_weights(tmp_path / "a.safetensors", tiny.conv_net())
        before = (tmp_path / "a.safetensors").read_bytes()
        monkeypatch.setattr(files, "save_file", full)
        with pytest.raises(OSError, match="No space"):
            save_weights(tmp_path / "a.safetensors", zeroed())
        assert (tmp_path / "a.safetensors").read_bytes() == before
        assert len(list(tmp_path.iterdir())) == 1


class Code:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "it ran")


def pickled(path, content):
    with path.open("wb") as file:
        pickle.dump(content, file)
    return path


class TestRefusals:
    def test_no_file_a_folder_nothing_in_it(self, tmp_path):
        (tmp_path / "empty.pt").touch()
        assert "No such file" in refused(tmp_path / "none.safetensors")
        assert "is a folder" in refused(tmp_path)
        assert "it is empty" in refused(tmp_path / "empty.pt")

    @pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "legacy.pt", "other.bin"])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
    def test_what_is_cut_short(self, tmp_path, name, share):
        path = tmp_path / name
        if name in ("a.safetensors", "other.bin"):
            save_weights(path, tiny.conv_net())
        else:
            torch.save(tiny.conv_net().state_dict(), path, _use_new_zipfile_serialization=name == "a.pt")
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert "cannot be read as weights" in refused(path)

    def test_something_else(self, tmp_path):
        (tmp_path / "a.pt").write_text("hello, this is text")
        (tmp_path / "a.safetensors").write_text("hello, this is text")
        torch.save(tiny.conv_net().state_dict(), tmp_path / "renamed.safetensors")
        assert "neither of safetensors nor of `torch.save`" in refused(tmp_path / "a.pt")
        assert "not of safetensors" in refused(tmp_path / "a.safetensors")
        assert "not of safetensors" in refused(tmp_path / "renamed.safetensors")

    def test_code_in_a_pickle_never_runs(self, tmp_path):
        ran = tmp_path / "ran.txt"
        legacy = io.BytesIO()
        torch.save({"a": Code(ran)}, legacy, _use_new_zipfile_serialization=False)
        (tmp_path / "legacy.pt").write_bytes(legacy.getvalue())
        paths = [
            pickled(tmp_path / "plain.pkl", Code(ran)),
            saved(tmp_path / "zip.pt", {"state_dict": tiny.conv_net().state_dict(), "extra": Code(ran)}),
            tmp_path / "legacy.pt",
        ]
        for path in paths:
            message = refused(path)
            assert "more than plain tensors" in message and "safetensors.torch.save_file" in message
        assert not ran.exists()

    def test_a_whole_module_a_program_an_object(self, tmp_path):
        saved(tmp_path / "whole.pt", tiny.conv_net())
        saved(tmp_path / "object.pt", {"state_dict": tiny.conv_net().state_dict(), "args": Path("x")})
        assert "more than plain tensors (torch.nn" in refused(tmp_path / "whole.pt")
        assert "more than plain tensors (pathlib" in refused(tmp_path / "object.pt")

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="TorchScript ended before Python 3.14")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_program(self, tmp_path):
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "program.pt")
        assert "TorchScript" in refused(tmp_path / "program.pt")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (torch.zeros(3), "holds a Tensor, not tensors by name"),
            ([torch.zeros(3)], "holds a list"),
            ({}, "holds no tensor"),
            ({"0.weight": [1.0, 2.0]}, "holds a list under '0.weight'"),
            ({3: torch.zeros(2)}, "under 3"),
            ({"a": torch.zeros(2).to_sparse()}, "sparse"),
            ({"state_dict": {}, "state_dict_ema": {}}, "several sets of weights: state_dict, state_dict_ema"),
            ({"state_dict": {"0.weight": None}}, "holds a NoneType"),
        ],
        ids=lambda x: x if isinstance(x, str) else "",
    )
    def test_what_is_no_state(self, tmp_path, content, says):
        assert says in refused(saved(tmp_path / "a.pt", content))

    def test_what_does_not_fit(self, tmp_path):
        assert "does not fit the Sequential" in refused(saved(tmp_path / "a.pt", {"a": torch.zeros(1)}))

    def test_numbers_that_are_not_finite(self, tmp_path):
        model = tiny.conv_net()
        with torch.no_grad():
            model[0].weight[0, 0, 1, 1] = torch.nan
        save_weights(tmp_path / "a.safetensors", model)
        assert ": 1 of 72 numbers of '0.weight' are NaN or infinite" in refused(tmp_path / "a.safetensors")

    def test_a_state_of_other_things_cannot_be_saved(self, tmp_path):
        class Strange(nn.Linear):
            def get_extra_state(self):
                return {"a": 1}

        with pytest.raises(ModelError, match=r"holds a dict under '_extra_state'"):
            save_weights(tmp_path / "a.safetensors", Strange(2, 2))
        assert not list(tmp_path.iterdir())


class TestHashing:
    def test_is_that_of_the_file(self, tmp_path):
        save_weights(tmp_path / "a.safetensors", tiny.conv_net())
        assert hash_weights(tiny.conv_net()) == hash_tensors(read_state(tmp_path / "a.safetensors"))

    def test_every_bit_counts_and_buffers_do(self):
        seen = {hash_weights(tiny.conv_net())}
        for name in ("0.weight", "1.running_mean", "1.num_batches_tracked"):
            model = tiny.conv_net()
            flat = model.state_dict()[name].view(-1).view(torch.uint8)
            flat[0] ^= 1
            seen.add(hash_weights(model))
        assert len(seen) == 4

    def test_names_shapes_and_types_count(self):
        a = torch.zeros(2, 3)
        different = [{"a": a}, {"b": a}, {"a": a.T}, {"a": a.int()}, {"a": a.to(torch.bfloat16)}, {"a": a, "b": a}]
        assert len({hash_tensors(t) for t in different}) == len(different)

    def test_layout_in_memory_does_not(self):
        a = torch.arange(6.0).view(2, 3)
        assert hash_tensors({"a": a}) == hash_tensors({"a": a.T.contiguous().T})

    def test_pieces_are_the_whole(self, monkeypatch):
        from amnesty.weights import files

        whole = hash_weights(tiny.conv_net())
        monkeypatch.setattr(files, "_CHUNK", 7)
        assert hash_weights(tiny.conv_net()) == whole
