import copy
import pickle
from pathlib import Path

import pytest

from amnesty.errors import InvalidInputError
from amnesty.requests.faults import Faults, Origin, Place, RequestError

FILE = Origin("request.yaml", Path("/"))
SET = Origin("--set seed=-1", Path("/"), 1000, lined=False)


def refused(*pairs):
    faults = Faults()
    for place, text in pairs:
        faults.add(place, text)
    with pytest.raises(RequestError) as found:
        faults.refuse()
    return found.value


def test_no_fault_is_no_error():
    Faults().refuse()


def test_one_fault_is_its_line():
    error = refused((Place(FILE, 12), "`seed` is wrong."))
    assert str(error) == "request.yaml:12: `seed` is wrong." and isinstance(error, InvalidInputError)


def test_faults_come_in_the_order_of_the_files_and_each_once():
    error = refused((Place(SET), "c"), (Place(FILE, 10), "b"), (Place(FILE, 2), "a"), (Place(FILE, 10), "b"))
    assert error.faults == ("request.yaml:2: a", "request.yaml:10: b", "--set seed=-1: c")
    assert str(error).splitlines()[0] == "The request has 3 faults:"


def test_very_many_faults_do_not_fill_the_screen():
    error = refused(*((Place(FILE, n), "wrong") for n in range(1, 201)))
    assert len(error.faults) == 200 and len(str(error).splitlines()) == 52
    assert str(error).endswith("... and 150 more")


def test_nothing_in_a_fault_can_command_a_terminal():
    (fault,) = refused((Place(FILE, 1), "`\x1b[31m\r` is\nunknown")).faults
    assert fault.isprintable()


@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_it_crosses_to_another_process(travel):
    error = refused((Place(FILE, 1), "a"), (Place(FILE, 2), "b"))
    assert travel(error).faults == error.faults and str(travel(error)) == str(error)
