import json

import pytest
import torch

from amnesty.training import shards
from amnesty.training.shards import damage, read_about, read_state, write_state

CPU = torch.device("cpu")


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def test_numbers_of_every_type_keep_their_bits(tmp_path):
    draw = torch.Generator().manual_seed(0)
    state = {
        str(dtype): torch.randint(0, 256, (6 * torch.empty(0, dtype=dtype).element_size(),), generator=draw)
        .to(torch.uint8)
        .view(dtype)
        .view(2, 3)
        for dtype in (
            torch.float32,
            torch.float64,
            torch.bfloat16,
            torch.float16,
            torch.int64,
            torch.int8,
            torch.uint8,
        )
    }
    state |= {"bool": torch.tensor([[True], [False]]), "scalar": torch.tensor(7), "empty": torch.empty(0, 3)}
    write_state(tmp_path, {}, state)
    found = read_state(tmp_path, CPU)
    assert all(found[k].dtype == v.dtype and found[k].shape == v.shape for k, v in state.items())
    assert all(bits(found[k]) == bits(v) for k, v in state.items())


def test_large_tensors_are_cut_and_small_ones_share_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 64)
    state = [
        torch.arange(100.0),
        torch.arange(3),
        *(torch.full((2,), float(k)) for k in range(5)),
        torch.arange(40.0),
    ]
    write_state(tmp_path, {}, state)
    files = list(tmp_path.glob("tensors-*.safetensors"))
    assert 10 < len(files) < 15
    assert all(torch.equal(a, b) for a, b in zip(read_state(tmp_path, CPU), state, strict=True))


def test_one_shard_is_in_memory_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 64)
    sizes, write = [], shards._write
    monkeypatch.setattr(shards, "_write", lambda path, data: sizes.append(len(data)) or write(path, data))
    write_state(tmp_path, {}, torch.zeros(1000))
    assert len(sizes) > 60 and max(sizes[2:-1]) < 64 + 200  # the numbers and a header; JSON comes first and last


def test_views_of_one_storage_come_back(tmp_path):
    whole = torch.arange(6.0)
    state = {
        "a": whole[:3],
        "b": whole[2:],
        "same": whole,
        "columns": whole.view(2, 3).T,
        "wide": whole[:1].expand(4),
    }
    write_state(tmp_path, {}, state)
    found = read_state(tmp_path, CPU)
    assert all(torch.equal(found[k], v) for k, v in state.items())


def test_the_order_of_the_dimensions_in_memory_is_kept(tmp_path):
    image = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_state(tmp_path, {}, image)
    found = read_state(tmp_path, CPU)
    assert torch.equal(found, image) and found.stride() == image.stride()


def test_facts_about_a_state_are_read_without_it(tmp_path):
    write_state(tmp_path, {"step": 3, "seconds": 0.1}, torch.zeros(2))
    (tmp_path / "state.json").unlink()
    assert read_about(tmp_path) == {"step": 3, "seconds": 0.1}


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path):
        write_state(tmp_path, {"step": 1}, {"x": torch.arange(5.0), "y": [1, 2.5]})
        assert damage(tmp_path) is None
        return tmp_path

    def names(self):
        return ["about.json", "state.json", "tensors-00000.safetensors", "manifest.json"]

    def test_a_file_that_is_gone_is_named(self, folder):
        assert sorted(path.name for path in folder.iterdir()) == sorted(self.names())
        for name in self.names():
            kept = (folder / name).read_bytes()
            (folder / name).unlink()
            assert damage(folder) == f"{name} is missing"
            (folder / name).write_bytes(kept)

    def test_every_flipped_byte_is_found(self, folder):
        for name in self.names():
            kept = (folder / name).read_bytes()
            for k in range(len(kept)):
                (folder / name).write_bytes(kept[:k] + bytes([kept[k] ^ 1]) + kept[k + 1 :])
                assert damage(folder) in (f"{name} is damaged", "manifest.json is damaged") or self.harmless(
                    folder, kept
                )
            (folder / name).write_bytes(kept)

    def harmless(self, folder, kept):
        return json.loads((folder / "manifest.json").read_text()) == json.loads(kept)

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
    def test_every_cut_is_found(self, folder, share):
        for name in self.names():
            kept = (folder / name).read_bytes()
            (folder / name).write_bytes(kept[: int(share * len(kept))])
            assert damage(folder) == f"{name} is damaged"
            (folder / name).write_bytes(kept)

    @pytest.mark.parametrize(
        "content", [b"[]", b"null", b"{}", b'{"schema": 1, "files": {}, "sha256": ""}', b"\xff\xfe"]
    )
    def test_a_manifest_that_is_none_is_found(self, folder, content):
        (folder / "manifest.json").write_bytes(content)
        assert damage(folder) == "manifest.json is damaged"

    def test_a_folder_in_place_of_a_file_is_found(self, folder):
        (folder / "state.json").unlink()
        (folder / "state.json").mkdir()
        assert "cannot be read" in damage(folder)
