"""What a request adds to a model of two towers."""

import pytest
import torch
from torch.utils.data import Subset

from amnesty.errors import DataError
from amnesty.requests.leaks import penultimate
from amnesty.requests.zero_shot import saved, settings_of, texts_in
from amnesty.tasks.zero_shot import ZeroShot

clip_runs = pytest.importorskip("tests.requests.clip_runs", reason="the extras `clip` or `vision` are not installed")
tiny_clip = clip_runs.tiny_clip


def task(**changes):
    data = clip_runs.training()
    red = data.labels == tiny_clip.COLOURS.index("red")
    parts = {
        "forget": Subset(data, red.nonzero()[:, 0].tolist()),
        "retain": Subset(data, (~red).nonzero()[:, 0].tolist()),
    }
    return ZeroShot(
        tiny_clip.untrained(), tiny_clip.processor(), tiny_clip.COLOURS, ["the {} digit"], **parts, **changes
    )


def test_texts_stand_one_a_line(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffa dog\r\n\n  a cät \n".encode())
    assert texts_in(path) == ("a dog", "a cät")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        texts_in(path)


def test_copies_are_looked_for_among_image_features():
    made = task()
    pixels = torch.rand(5, 3, 8, 8)
    features = penultimate(made.model, pixels[:2])
    assert torch.equal(features(pixels), made.model.image_features(pixels).detach())


def test_adapters_are_merged_before_a_model_is_scored():
    made = task(lora=2, train="attention")
    for name, p in made.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(p, 0.02)
    merged = saved(made, made.model)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    pixels = torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(merged(pixels), made.model(pixels))


def test_a_record_tells_how_much_may_move():
    said = settings_of(task(), {"train": "text_attention"})
    assert said["class_names"] == list(tiny_clip.COLOURS) and said["train"] == "text_attention"
    assert said["trainable"] == sum(
        p.numel()
        for name, p in tiny_clip.untrained().named_parameters()
        if "text_model" in name and "self_attn" in name
    )
