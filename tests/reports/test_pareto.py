from hypothesis import given
from hypothesis import strategies as st

from amnesty.reports.pareto import pareto_front

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=15)  # few values, hence many ties


def beats(a, b):
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(points)
def test_agrees_with_brute_force(found):
    slow = {i for i, point in enumerate(found) if not any(beats(other, point) for other in found)}
    fast = pareto_front(found)
    assert set(fast) == slow
    assert len(fast) == len(slow)


@given(points)
def test_is_a_staircase(found):
    front = [found[i] for i in pareto_front(found)]
    assert front == sorted(front)
    assert [y for _, y in front] == sorted((y for _, y in front), reverse=True)


@given(points, st.randoms())
def test_ignores_the_order_of_the_points(found, random):
    mixed = random.sample(found, len(found))
    assert [found[i] for i in pareto_front(found)] == [mixed[i] for i in pareto_front(mixed)]
