import dataclasses

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import Subset

import amnesty
from amnesty.bargaining import Nash
from amnesty.errors import InvalidInputError, ModelError
from amnesty.methods import MUNBa
from amnesty.methods.lur import LUR
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, slope, unit

PLAIN = {"trim": 0.0, "max_norm": None, "pairing": "truncate", "batch_size": 6, "forget_batch_size": 6}


def entropy_at(model, parameters, batch):
    names = [name for name, _ in model.named_parameters()]
    outputs = functional_call(model, dict(zip(names, parameters, strict=True)), (batch[0],))
    return F.cross_entropy(outputs, batch[1])


def looked(model, outer, inner, step, kind="exact"):
    """The gradient of ``outer`` past a step on ``inner``, by one differentiation of the whole expression."""
    parameters = list(model.parameters())
    graph = torch.autograd.grad(inner(parameters), parameters, create_graph=True)
    if kind == "none":
        graph = [g.detach() for g in graph]
    shifted = [p - step * g for p, g in zip(parameters, graph, strict=True)]
    return [g.detach() for g in torch.autograd.grad(outer(shifted), parameters)]


@pytest.mark.parametrize("order", ["retain", "forget"])
@pytest.mark.parametrize("curvature", ["exact", "finite-difference", "none"])
@pytest.mark.parametrize("nash", [False, True])
def test_it_descends_past_the_step_of_the_other(order, curvature, nash):
    """Acceptance test 7: the update is ``w_r g_r + w_f (I - step H_r) grad L_f(theta')``."""
    task = tiny.task(tiny.mlp())
    method = LUR(
        order=order,
        curvature=curvature,
        step=0.4,
        forget_weight=0.3,
        rule=Nash() if nash else None,
        **PLAIN,
        **SETTINGS,
    )
    outcome = amnesty.unlearn(task, method, seed=3)

    def direction(model, batches):
        def forget(parameters):
            return -entropy_at(model, parameters, batches["forget"])

        def retain(parameters):
            return entropy_at(model, parameters, batches["retain"])

        kind = "exact" if curvature == "finite-difference" else curvature
        if order == "retain":
            f, r = looked(model, forget, retain, 0.4, kind), slope(model, retain(list(model.parameters())))
        else:
            f, r = slope(model, forget(list(model.parameters()))), looked(model, retain, forget, 0.4, kind)
        if nash:
            return unit([x + y for x, y in zip(unit(f), unit(r), strict=True)])
        return [0.3 * x + y for x, y in zip(f, r, strict=True)]

    expected = by_hand(task, direction, {"forget": 6, "retain": 6}, pairing="truncate", seed=3, **SETTINGS)
    if curvature == "finite-difference":
        for p, q, start in zip(
            outcome.model.parameters(), expected.parameters(), task.model.parameters(), strict=True
        ):
            assert (p - q).norm() < 0.02 * (q - start).norm()
    else:
        assert_same_weights(outcome.model, expected)


def test_the_hessian_term_is_that_of_a_dense_hessian():
    """Acceptance test 7: exact and first order differ by ``step H_r grad L_f(theta')`` on one step."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3)).double()
    data = tiny.blobs(40)
    data.images = data.images.double()
    task = amnesty.Classification(model, forget=Subset(data, range(8)), retain=Subset(data, range(8, 40)))
    once = {"trim": 0.0, "max_norm": None, "epochs": 1, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    ends = []
    for curvature in ("exact", "none"):
        outcome = amnesty.unlearn(task, LUR(step=0.7, forget_weight=0.3, curvature=curvature, **once))
        ends.append(torch.cat([p.detach().flatten() for p in outcome.model.parameters()]))
    start = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(theta, part):
        images, labels = data[list(part)]
        return F.cross_entropy(images.flatten(1) @ theta[:108].view(3, 36).T + theta[108:], labels)

    def retain(theta):
        return loss(theta, range(8, 40))

    g_r, hessian = torch.func.grad(retain)(start), torch.autograd.functional.hessian(retain, start)
    v = -torch.func.grad(loss)(start - 0.7 * g_r, range(8))
    torch.testing.assert_close(ends[0], start - g_r - 0.3 * (v - 0.7 * hessian @ v))
    torch.testing.assert_close(ends[1], start - g_r - 0.3 * v)


def test_by_default_the_norm_is_clipped_and_the_step_is_the_rate():
    task, given = tiny.task(tiny.mlp()), {"trim": 0.0, "epochs": 3, "lr": 0.05}
    default = tiny.weights(amnesty.unlearn(task, LUR(**given)).model)
    assert tiny.same(default, tiny.weights(amnesty.unlearn(task, LUR(step=0.05, max_norm=1.0, **given)).model))
    assert not tiny.same(default, tiny.weights(amnesty.unlearn(task, LUR(step=0.5, **given)).model))
    by_reach = given | {"lr": None, "rule": Nash()}
    unset, set_ = (amnesty.unlearn(task, LUR(**by_reach, **more)) for more in ({}, {"step": 0.01}))
    assert tiny.same(tiny.weights(unset.model), tiny.weights(set_.model))
    assert unset.history[-1]["lr"] != 0.01


def test_it_trims_first():
    task = tiny.task()
    outcome = amnesty.unlearn(task, LUR(trim=0.5, stages=1, lr=1e-30, epochs=1))
    far = [
        name
        for (name, p), q in zip(outcome.model.named_parameters(), task.model.parameters(), strict=True)
        if (p - q).abs().max() > 1e-20
    ]
    assert far in (["5.weight", "5.bias"], ["5.weight"])
    assert outcome.history[0]["trimmed"] > 0.2


def test_every_forget_set_looks_past_the_retaining_step():
    data = tiny.blobs(120)
    sets = {"a": Subset(data, range(6)), "b": Subset(data, range(6, 12))}
    task = amnesty.Classification(tiny.mlp(), forget=sets, retain=Subset(data, range(12, 120)))
    history = amnesty.unlearn(task, LUR(epochs=1)).history[1:]
    assert all("a_hessian_share" in r and "b_hessian_share" in r for r in history)
    assert all((r["a_weight"], r["retain_weight"]) == (pytest.approx(0.1), 1) for r in history)
    with pytest.raises(InvalidInputError, match="looks past one forgetting player, but there are 2 named .* a, b"):
        amnesty.unlearn(task, LUR(order="forget"))


def test_one_named_forget_set_can_be_looked_past():
    data = tiny.blobs(120)
    task = amnesty.Classification(
        tiny.mlp(), forget={"a": Subset(data, range(6))}, retain=Subset(data, range(6, 120))
    )
    assert "retain_hessian_share" in amnesty.unlearn(task, LUR(order="forget", epochs=1)).history[1]


def test_finite_differences_of_kinked_networks_are_refused():
    task, steps = tiny.task(), []
    task.model.train()
    before = tiny.weights(task.model)
    with pytest.raises(ModelError, match="this one has Relu. Use curvature='exact'"):
        amnesty.unlearn(task, LUR(curvature="finite-difference"), progress=lambda record, total: steps.append(record))
    assert not steps and tiny.same(tiny.weights(task.model), before) and task.model.training


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"step": 0.0}, "`step` must be a positive number"),
        ({"order": "both"}, "`order` must be one of retain, forget"),
        ({"curvature": "some"}, "`curvature` must be one of"),
        ({"forget_weight": -1.0}, "`forget_weight` must be"),
        ({"trim": 2}, r"`trim` must be in \[0, 1\]"),
        ({"wish": "unseen"}, "LUR.wish='unseen'. must know"),
    ],
)
def test_settings_out_of_range_are_refused(given, reason):
    with pytest.raises(InvalidInputError, match=reason):
        amnesty.unlearn(tiny.task(tiny.mlp()), LUR(**given))


def test_bargained_differs_from_munba_in_the_lookahead_alone():
    mine, theirs = LUR.bargained(), MUNBa()
    shared = {field.name for field in dataclasses.fields(mine)} & {field.name for field in dataclasses.fields(theirs)}
    assert all(getattr(mine, name) == getattr(theirs, name) for name in shared)
    assert mine.trim == 0 and LUR.bargained(curvature="none", at_least=2).curvature == "none"
    outcome = amnesty.unlearn(tiny.task(), LUR.bargained(at_least=2, epochs=1))
    assert 0 < outcome.history[-1]["forget_hessian_share"] < 1
