"""Images have seeds of their own, are rounded alike in memory and in files, and a stopped run goes on."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from amnesty.errors import CheckpointError, DataError, InvalidInputError, MissingExtraError, ModelError
from amnesty.evaluation import draw_images, read_drawn
from amnesty.evaluation.drawn import image_seed
from amnesty.evaluation.image_values import coloured, eight_bit, floats, images_in
from tests import tiny_diffusion

# isort: split
from amnesty import Concept, Diffusion

COUNTS = {"a cat": 3, "a/dog: red!": 2, 7: 4}


class Noise:
    """Draws noise of the seed, a little darker for other prompts; stops after so many calls."""

    def __init__(self, calls=1000, channels=3, **describe):
        self.describe = {"weights": "abc", "size": (4, 5), **describe}
        self.calls, self.channels, self.asked = calls, channels, []

    def __call__(self, prompts, seeds):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        self.asked += list(zip(prompts, seeds, strict=True))
        shape = (self.channels, 4, 5)
        noise = [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise) * torch.tensor([0.5 if p == "a cat" else 1.0 for p in prompts])[:, None, None, None]


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[p], other[p]) for p in one)


class TestSeeds:
    def test_follow_from_prompt_and_number_alone(self):
        drawn = draw_images(Noise(), COUNTS)
        alone = draw_images(Noise(), {"a cat": 5}, batch_size=2)
        assert torch.equal(drawn["a cat"], alone["a cat"][:3]) and drawn.seeds[7] == [
            image_seed(7, k) for k in range(4)
        ]

    def test_differ_between_all_images_and_with_the_seed_of_the_whole(self):
        seeds = [
            s for whole in (0, 1) for rows in draw_images(Noise(), COUNTS, seed=whole).seeds.values() for s in rows
        ]
        assert len(set(seeds)) == 18
        assert image_seed("7", 0) != image_seed(7, 0)


def test_values_are_those_of_the_drawer_rounded_to_256_levels():
    drawn = draw_images(Noise(), COUNTS)
    for prompt, count in COUNTS.items():
        assert drawn[prompt].shape == (count, 3, 4, 5) and drawn[prompt].dtype == torch.uint8
        exact = Noise()([prompt] * count, drawn.seeds[prompt])
        assert float((drawn[prompt].float() / 255 - exact).abs().max()) <= 0.5 / 255 + 1e-6
    assert torch.equal(drawn.first("a cat", 2), drawn["a cat"][:2]) and len(drawn.first("a cat", 99)) == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_holds_the_same_as_memory(tmp_path, channels):
    held = draw_images(Noise(channels=channels), COUNTS)
    kept = draw_images(Noise(channels=channels), COUNTS, folder=tmp_path / "images", batch_size=2)
    assert same(held, kept) and same(read_drawn(tmp_path / "images"), kept)
    listed = sorted(str(p.relative_to(tmp_path / "images")) for p in (tmp_path / "images").rglob("*.png"))
    assert listed[0] == "000-a-cat/0000.png" and listed[3] == "001-a-dog-red/0000.png" and len(listed) == 9
    pixels = np.asarray(Image.open(tmp_path / "images" / "000-a-cat" / "0001.png"))
    assert np.array_equal(pixels, held["a cat"][1].permute(1, 2, 0).numpy().squeeze())


class TestStopped:
    def test_goes_on_and_draws_nothing_twice(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            draw_images(Noise(calls=2), COUNTS, folder=tmp_path, batch_size=2)
        assert len(list(tmp_path.rglob("*.png"))) == 4
        with pytest.raises(CheckpointError, match="5 of 9 images are not in"):
            read_drawn(tmp_path)
        drawer, told = Noise(), []
        kept = draw_images(drawer, COUNTS, folder=tmp_path, batch_size=2, progress=lambda *n: told.append(n))
        assert len(drawer.asked) == 5 and told == [(6, 9), (8, 9), (9, 9)]
        assert same(kept, draw_images(Noise(), COUNTS))
        assert not list(tmp_path.rglob(".*"))  # nothing half-written stays

    def test_manifest_comes_first_and_says_all(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            draw_images(Noise(calls=0), COUNTS, folder=tmp_path)
        content = json.loads((tmp_path / "manifest.json").read_text())
        assert content["drawer"] == {"weights": "abc", "size": [4, 5]} and content["schema"] == 1
        assert [(one["prompt"], len(one["seeds"])) for one in content["prompts"]] == list(COUNTS.items())

    def test_a_lost_image_is_drawn_again(self, tmp_path):
        before = draw_images(Noise(), COUNTS, folder=tmp_path)
        held = {prompt: before[prompt] for prompt in before}
        (tmp_path / "002-class-7" / "0002.png").unlink()
        drawer = Noise()
        after = draw_images(drawer, COUNTS, folder=tmp_path)
        assert drawer.asked == [(7, image_seed(7, 2))] and torch.equal(after[7], held[7])


class TestAnotherFolder:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"drawer": Noise(steps=20)}, r"another drawer \(steps\)"),
            ({"drawer": Noise(weights="other")}, r"another drawer \(weights\)"),
            ({"counts": {"a cat": 3}}, "other prompts"),
            ({"counts": {**COUNTS, 7: 5}}, "other prompts, or another number"),
            ({"seed": 1}, "another seed"),
        ],
    )
    def test_is_refused_and_left_as_it_was(self, tmp_path, change, says):
        draw_images(Noise(), COUNTS, folder=tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        given = {"drawer": Noise(), "counts": COUNTS, **change}
        with pytest.raises(CheckpointError, match=says):
            draw_images(**given, folder=tmp_path)
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def test_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(CheckpointError, match=r"other files and no manifest.json"):
            draw_images(Noise(), COUNTS, folder=tmp_path)
        with pytest.raises(CheckpointError, match="is a file"):
            draw_images(Noise(), COUNTS, folder=tmp_path / "letter.txt")

    @pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "prompts": 3, "drawer": {}}'])
    def test_with_a_manifest_that_is_none_is_refused(self, tmp_path, text):
        (tmp_path / "manifest.json").write_text(text)
        for read in (read_drawn, lambda folder: draw_images(Noise(), COUNTS, folder=folder)):
            with pytest.raises(CheckpointError, match=r"manifest.json|holds images of"):
                read(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    drawn = draw_images(Noise(), COUNTS, folder=tmp_path)
    path = tmp_path / "000-a-cat" / "0001.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"0001.png cannot be read"):
        drawn["a cat"]
    Image.new("RGB", (2, 2)).save(path)
    with pytest.raises(DataError, match="several sizes"):
        drawn["a cat"]


@pytest.mark.parametrize(
    ("counts", "says"),
    [({}, "no prompt"), ({" ": 1}, "must not be empty"), ({"a": 0}, "at least one image"), ({"a": True}, "at least")],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path, counts, says):
    with pytest.raises(InvalidInputError, match=says):
        draw_images(Noise(), counts, folder=tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_a_drawer_that_gives_no_images_is_named(tmp_path):
    wrong = Noise()
    for gives, says in (
        (torch.full((1, 3, 4, 5), 1.5), r"\[0, 1\], found 1.5"),
        (torch.full((1, 3, 4, 5), torch.nan), r"\[0, 1\]"),
        (torch.zeros(2, 3, 4, 5), r"\[1, C, H, W\], found \[2"),
        ("images", "found str"),
    ):
        drawer = type("Wrong", (), {"describe": wrong.describe, "__call__": lambda self, p, s, gives=gives: gives})()
        with pytest.raises(ModelError, match=says):
            draw_images(drawer, {"a cat": 1})
    with pytest.raises(ModelError, match="1 or 3 channels, found 4"):
        draw_images(Noise(channels=4), COUNTS, folder=tmp_path)
    with pytest.raises(InvalidInputError, match="plain values"):
        draw_images(Noise(thing=object()), COUNTS)


def test_without_pillow_a_folder_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="pillow"):
        draw_images(Noise(), COUNTS, folder=tmp_path / "images")
    assert len(draw_images(Noise(), COUNTS)) == 3 and not (tmp_path / "images").exists()


def test_a_bar_can_be_shown(capsys):
    assert same(draw_images(Noise(), COUNTS, progress=True), draw_images(Noise(), COUNTS))


def test_a_real_generator_draws_the_same_in_batches_and_alone():
    pipe = tiny_diffusion.pipeline(tiny_diffusion.clip().text_model)
    task = Diffusion(pipe, forget=Concept("the digit three"), retain=["the digit two"])
    drawer, counts = task.drawer(steps=2), {"the digit three": 3, "the digit two": 2}
    together, alone = draw_images(drawer, counts), draw_images(drawer, counts, batch_size=1)
    for prompt in counts:
        assert together[prompt].shape[1:] == (3, 16, 16)
        assert int((together[prompt].int() - alone[prompt].int()).abs().max()) <= 1
    assert not torch.equal(together["the digit three"][0], together["the digit three"][1])


class TestValues:
    def test_become_8_bits_and_back(self):
        images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
        assert torch.equal(eight_bit(floats(images)), images)
        assert coloured(images).shape == (1, 3, 16, 16) and coloured(images.expand(-1, 3, -1, -1)).shape[1] == 3

    @pytest.mark.parametrize(
        "images",
        [
            torch.zeros(1, 3, 4, 4) - 1e-3,
            torch.full((1, 3, 4, 4), 255.0),
            torch.zeros(3, 4, 4),
            torch.zeros(1, 3, 4, 4).int(),
        ],
    )
    def test_of_another_range_shape_or_type_are_refused(self, images):
        for function in (eight_bit, floats):
            with pytest.raises(DataError, match=r"\[0, 1\]"):
                function(images)

    def test_of_data_sets_are_read_as_they_are(self):
        images = torch.rand(70, 3, 4, 4)
        pairs = [(image, 0) for image in images]
        pictures = [Image.fromarray(eight_bit(i[None])[0].permute(1, 2, 0).numpy()) for i in images]
        assert torch.equal(torch.cat(list(images_in(images, "them"))), images)
        assert torch.equal(torch.cat(list(images_in(pairs, "them"))), images)
        assert torch.equal(torch.cat(list(images_in(pictures, "them"))), eight_bit(images))
        assert torch.cat(list(images_in([{"image": pictures[0], "label": 1}], "them"))).shape == (1, 3, 4, 4)

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ([], "The pictures are none"),
            (["a cat"], "Image 0 of the pictures must be a PIL image"),
            (iter([]), "a data set with a length"),
            ([torch.rand(3, 4, 4), torch.rand(3, 5, 4)], "one size"),
            ([torch.rand(3, 4, 4) * 2], r"Image 0 of the pictures must have values in \[0, 1\]"),
        ],
    )
    def test_that_are_none_are_named(self, source, says):
        with pytest.raises(DataError, match=says):
            list(images_in(source, "the pictures"))
