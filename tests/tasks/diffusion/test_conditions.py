import pytest
import torch

from amnesty.errors import InvalidInputError
from amnesty.tasks.diffusion.conditions import NONE, Captions, Conditions


def told(calls):
    """Tell the length of each prompt, and remember who asked."""

    def tell(prompts):
        calls.append(prompts)
        if prompts is not None and "bad" in prompts:
            raise InvalidInputError("bad")
        return {"length": torch.tensor([[0.0]] if prompts is None else [[float(len(p))] for p in prompts])}

    return tell


CPU = torch.device("cpu")


class TestConditions:
    def test_encodes_each_prompt_once(self):
        calls = []
        found = Conditions(told(calls))
        rows = found.rows(["a", "bbb", "a"])
        assert rows == [1, 2, 1] and not calls

        assert found(torch.tensor([NONE, *rows]), CPU)["length"].tolist() == [[0.0], [1.0], [3.0], [1.0]]
        assert found.rows(["cc", "a"]) == [3, 1]
        assert found(torch.tensor([3, 1]), CPU)["length"].tolist() == [[2.0], [1.0]]
        assert calls == [None, ["a", "bbb"], ["cc"]]

    def test_no_prompt_alone(self):
        found = Conditions(told([]))
        assert found(torch.tensor([NONE]), CPU)["length"].tolist() == [[0.0]]
        assert found.known_rows(["four"]) == [1] and found.read()["length"].tolist() == [[0.0], [4.0]]

    def test_a_bad_prompt_is_forgotten_again(self):
        found = Conditions(told([]))
        found.rows(["a"])
        with pytest.raises(InvalidInputError):
            found.known_rows(["b", "bad", "c"])

        assert found.known_rows(["dd"]) == [2] and found.read()["length"].tolist() == [[0.0], [1.0], [2.0]]


class TestCaptions:
    def test_number_of_a_set_of_prompts(self):
        found = Captions(Conditions(told([])))
        assert [found.number(prompts) for prompts in (("a",), ("b", "a"), ("a",))] == [0, 1, 0]
        assert found.prompts == ("a", "b") and found.prompts_of(1) == ("b", "a")

    def test_one_prompt_draws_no_numbers(self):
        found, random = Captions(Conditions(told([]))), torch.Generator().manual_seed(0)
        found.number(("a",))
        before = random.get_state()
        assert found.choose(torch.zeros(3, dtype=torch.int64), random).tolist() == [1, 1, 1]
        assert torch.equal(before, random.get_state())

    def test_each_of_several_is_as_likely(self):
        found = Captions(Conditions(told([])))
        number, single = found.number(("a", "b", "c")), found.number(("d",))
        drawn = found.choose(torch.tensor([number] * 3000 + [single]), torch.Generator().manual_seed(0))

        assert drawn[-1] == 4
        assert (drawn[:-1].bincount() / 3000)[1:].tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
