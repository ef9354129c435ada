import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import amnesty
from amnesty.errors import DataError
from amnesty.tasks.diffusion import Concept
from amnesty.tasks.diffusion.stored import Stored, fingerprint
from tests import tiny_diffusion
from tests.tiny_diffusion import FIVE, FOUR, SIX, THREE, task


def counted(pipe):
    """Count how often the autoencoder encodes, and the backbone answers."""
    calls = {"encode": 0, "answer": 0}
    encode, backbone = pipe.vae.encode, pipe.unet

    def counting(pixels):
        calls["encode"] += len(pixels)
        return encode(pixels)

    pipe.vae.encode = counting
    # The task works with a copy, which keeps its hooks.
    backbone.register_forward_pre_hook(lambda *args: calls.__setitem__("answer", calls["answer"] + 1))
    return calls


class TestEncoded:
    def test_once_for_all_tasks(self, tmp_path):
        found = []
        for _ in range(2):
            pipe = tiny_diffusion.stable()
            calls, wanted = counted(pipe), task(pipe, cache=tmp_path)
            wanted.check()
            found.append((calls["encode"], [part.tensors[0] for part in wanted.parts.values()]))

        assert [count for count, _ in found] == [6 + 8, 0]
        for one, other in zip(found[0][1], found[1][1], strict=True):
            assert torch.equal(one, other)

    def test_once_for_all_steps(self):
        pipe = tiny_diffusion.stable()
        calls = counted(pipe)
        amnesty.unlearn(task(pipe), amnesty.methods.MUNBa(at_least=4, forget_batch_size=2, batch_size=3), seed=0)

        assert calls["encode"] == 6 + 8

    @pytest.mark.parametrize("other", ["autoencoder", "images"])
    def test_anew_for_others(self, tmp_path, other):
        task(cache=tmp_path).check()
        pipe, options = tiny_diffusion.stable(), {}
        if other == "autoencoder":
            pipe.vae = tiny_diffusion.autoencoder(seed=1)
        else:
            options = {"forget": Concept(THREE, FOUR, tiny_diffusion.Pictures(6, seed=9))}
        calls = counted(pipe)
        task(pipe, cache=tmp_path, **options).check()

        assert calls["encode"] == (14 if other == "autoencoder" else 6)

    def test_captions_are_not_of_the_images(self, tmp_path):
        first, second = (
            task(cache=tmp_path, retain=tiny_diffusion.Pictures(4, labels)) for labels in ([FIVE, SIX], [SIX, FIVE])
        )
        assert [t.parts["retain"].tensors[1].tolist() for t in (first, second)] == [[1, 2, 1, 2]] * 2
        assert (first.kept, second.kept) == ((FIVE, SIX), (SIX, FIVE))

    def test_nothing_is_stored_where_no_folder_is_given(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        task().check()
        assert not list(tmp_path.iterdir())


class TestDrawn:
    HOW = amnesty.Drawing(per_prompt=2, steps=2)

    def drawn(self, folder, pipe=None, **options):
        pipe = pipe or tiny_diffusion.stable()
        given = {"forget": Concept(THREE, FOUR), "retain": [FIVE, SIX], "drawing": self.HOW, **options}
        calls, wanted = counted(pipe), task(pipe, cache=folder, **given)
        return torch.cat([part.tensors[0] for part in wanted.parts.values()]), calls["answer"]

    def test_once_for_all_tasks(self, tmp_path):
        first, drawn = self.drawn(tmp_path)
        again, none = self.drawn(tmp_path)

        assert torch.equal(first, again) and drawn > 0 and none == 0

    @pytest.mark.parametrize("other", ["weights", "text encoder", "scheduler", "steps", "prompts"])
    def test_anew_by_others(self, tmp_path, other):
        first, _ = self.drawn(tmp_path)
        pipe, options = tiny_diffusion.stable(), {}
        if other == "weights":
            with torch.no_grad():
                pipe.unet.conv_in.bias.add_(0.1)
        elif other == "text encoder":
            pipe.text_encoder = tiny_diffusion.clip(seed=1).text_model
        elif other == "scheduler":
            pipe.scheduler = tiny_diffusion.DDIMScheduler(beta_end=0.05, clip_sample=False, steps_offset=1)
        elif other == "steps":
            options = {"drawing": amnesty.Drawing(per_prompt=2, steps=3)}
        else:
            options = {"forget": Concept("the number three", FOUR)}
        found, answers = self.drawn(tmp_path, pipe, **options)

        assert answers > 0 and not torch.equal(first, found)


class TestStored:
    def test_keeps_what_was_made(self, tmp_path):
        stored, made = Stored(tmp_path / "deep" / "folder"), []

        def make():
            made.append(1)
            return {"a": torch.arange(6.0).view(2, 3).T}

        first, again = (stored.get("kind", "key", make)["a"] for _ in range(2))
        assert torch.equal(first, again) and len(made) == 1
        (path,) = (tmp_path / "deep" / "folder").iterdir()
        assert path.name.startswith("kind-") and torch.equal(load_file(path)["a"], first)

    def test_nothing_half_written_stays_where_making_fails(self, tmp_path):
        def fail():
            raise KeyError("on purpose")

        with pytest.raises(KeyError, match="on purpose"):
            Stored(tmp_path).get("kind", "key", fail)
        assert not list(tmp_path.iterdir())

    def test_damaged_file_is_named(self, tmp_path):
        stored = Stored(tmp_path)
        stored.get("kind", "key", lambda: {"a": torch.zeros(3)})
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes()[:-5])

        with pytest.raises(DataError, match=f"{path.name} is damaged and cannot be read.* Delete it"):
            stored.get("kind", "key", lambda: {"a": torch.zeros(3)})


class TestFingerprint:
    def test_is_of_the_weights(self):
        first, same = nn.Linear(2, 2), nn.Linear(2, 2)
        same.load_state_dict(first.state_dict())
        assert fingerprint(first) == fingerprint(same) != fingerprint(nn.Linear(2, 2))

    def test_knows_types_shapes_and_names(self):
        one = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            one.weight.zero_()
        found = {fingerprint(one), fingerprint(nn.Sequential(one)), fingerprint(one.double())}
        other = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            other.weight.zero_()
        assert len(found | {fingerprint(other)}) == 4

    def test_of_half_precision(self):
        assert fingerprint(nn.Linear(2, 2).bfloat16())
