"""Who judges what is drawn, and what is asked of them about earlier requests."""

import base64
import io
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from amnesty.evaluation import Judge, draw_images
from amnesty.requests.came_back import came_back
from amnesty.requests.chain import Earlier
from amnesty.requests.drawn_pictures import drawn_facts, png, shown_prompts
from amnesty.requests.forgotten import Forgotten
from amnesty.requests.judges import Prepares, spread
from amnesty.requests.links import Link
from amnesty.requests.prompt_hashes import prompt_hash
from amnesty.requests.request import InputsSpec
from amnesty.tasks.diffusion import Concept


class Means(nn.Module):
    """Logits that are the means of the channels, as a classifier of Hugging Face returns them."""

    def forward(self, images):
        return SimpleNamespace(logits=images.mean((2, 3)))


def test_images_become_what_the_judge_was_trained_with():
    inputs = InputsSpec(size=(4, 4), channels=3, mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.5))
    found = Prepares(Means(), inputs)(torch.full((2, 1, 8, 8), 0.6))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5, 0.2]] * 2))
    grey = Prepares(Means(), InputsSpec(channels=1))(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 2, 2))
    torch.testing.assert_close(grey, torch.tensor([[0.299]]))


@pytest.mark.parametrize(("most", "chosen"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (50, list(range(10)))])
def test_prompts_are_taken_evenly(most, chosen):
    assert spread(tuple(range(10)), most) == tuple(chosen)


class Draws:
    """Draws white images for the prompts that it knows, and black ones for others."""

    def __init__(self, known):
        self.known = known
        self.describe = {
            **{"steps": 1, "guidance": 1.0, "scheduler": "none", "size": [2, 2]},
            "weights": str(sorted(known)),
        }

    def __call__(self, prompts, seeds):
        light = [float(prompt in self.known) for prompt in prompts]
        return torch.tensor(light).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


class Light(nn.Module):
    def forward(self, images):
        light = images.flatten(1).mean(1) - 0.5
        return torch.stack([light, -light], 1)


def earlier(known=True, concepts=True):
    numbers = {"drawn_forget_accuracy": 1.0, "drawn_forget_accuracy_low": 0.9, "drawn_forget_accuracy_high": 1.0}
    link = Link(
        name="first",
        audit_sha256="0",
        model_before="a",
        model_after="b",
        forgotten=1,
        forgotten_sha256="0",
        ended="",
        known=numbers if known else {},
        concepts={"cat": ["a cat"]} if concepts else {},
    )
    return Earlier((link,), (Forgotten("first", {"cat": (prompt_hash("a cat"),)}),))


JUDGE = Judge(model=Light(), classes={"a cat": 0})


class TestCameBack:
    def test_it_did(self):
        (found,) = came_back(earlier(), JUDGE, [Draws(()), Draws(("a cat",))], 20, 0)
        assert found.answer == "came back" and found.numbers["drawn_forget_accuracy_after"] == 1
        assert "change +1.000" in found.reason and found.name == "first"

    def test_it_did_not(self):
        (found,) = came_back(earlier(), JUDGE, [Draws(()), Draws(())], 60, 0)
        assert found.answer == "not detected" and found.numbers["change"] == 0

    def test_it_had_never_gone(self):
        (found,) = came_back(earlier(), JUDGE, [Draws(("a cat",)), Draws(("a cat",))], 20, 0)
        assert found.answer == "remembered"

    def test_too_few_images_cannot_tell(self):
        (found,) = came_back(earlier(), JUDGE, [Draws(()), Draws(())], 2, 0)
        assert found.answer == "inconclusive"

    @pytest.mark.parametrize(
        ("before", "judge", "why"),
        [
            (earlier(), None, "no judge"),
            (earlier(), Judge(model=Light()), "classes"),
            (earlier(), Judge(model=Light(), classes={"a cat": None}), "does not know"),
            (earlier(), Judge(model=Light(), classes={"a cat": 7}), "0 to 1"),
            (earlier(concepts=False), JUDGE, "no prompts"),
            (earlier(known=False), JUDGE, "is not recorded"),
        ],
    )
    def test_where_nobody_can_tell_it_says_why(self, before, judge, why):
        (found,) = came_back(before, judge, [Draws(()), Draws(())], 4, 0)
        assert found.answer == "inconclusive" and why in found.reason

    def test_prompts_go_from_link_to_link(self):
        link = earlier().chain[0]
        assert Link.of(link.document) == link and "concepts" not in earlier(concepts=False).chain[0].document


class TestPictures:
    @pytest.fixture(scope="class")
    @classmethod
    def drawn(cls):
        kept = tuple("hijklmnopq")
        task = SimpleNamespace(concepts={"cat": Concept(["a cat", *"bcdefg"], "a dog")}, kept=kept)
        counts = dict.fromkeys(shown_prompts(task, kept), 6)
        return task, kept, *(draw_images(Draws(known), counts) for known in (("a cat",), ()))

    def test_they_are_of_the_same_prompts_and_seeds(self, drawn):
        found, before = drawn_facts(*drawn), drawn[2]
        shown = [(len(one["rows"]), one["prompts"], one["anchor"]) for one in found["groups"]]
        assert shown == [(4, 7, "a dog"), (8, 10, None)]
        row = found["groups"][0]["rows"][0]
        assert row["seeds"] == [str(seed) for seed in before.seeds["a cat"][:4]] and len(row["after"]) == 4
        assert row["before"] != row["after"] and "judged" not in row
        assert all(row["before"] == row["after"] for row in found["groups"][1]["rows"])
        assert "before" not in drawn_facts(*drawn, pictures=False)["groups"][0]["rows"][0]

    def test_a_judge_says_what_they_show(self, drawn):
        classes = {**dict.fromkeys([*"bcdefg", *drawn[1]]), "a cat": 0}
        names = Judge(model=Light(), classes=classes, names=("light", "dark"))
        found = drawn_facts(*drawn, names)
        row = found["groups"][0]["rows"][0]["judged"]
        assert row["wanted"] == "light" and row["before"] == [("light", 0.7311)] * 4 == row["before"]
        assert row["after"] == [("dark", 0.7311)] * 4 and found["judge"] == "Light"
        assert "wanted" not in found["groups"][1]["rows"][0]["judged"]
        dark = drawn_facts(*drawn, Judge(model=Light(), classes=classes, among=[0]))["groups"][0]["rows"][0]
        assert dark["judged"]["after"] == [("class 0", 1.0)] * 4

    def test_large_ones_are_made_small(self):
        image = pytest.importorskip("PIL.Image")
        for shape, mode in (((1, 256, 128), "L"), ((3, 20, 10), "RGB")):
            found = image.open(io.BytesIO(base64.b64decode(png(torch.zeros(shape, dtype=torch.uint8)))))
            assert found.mode == mode and found.size == ((64, 128) if mode == "L" else (10, 20))
