import io

from rich.console import Console

import amnesty
from amnesty.methods import MUNBa
from amnesty.training import progress_bar
from tests import tiny


def test_the_bar_shows_both_players_and_is_gone_afterwards():
    screen = io.StringIO()
    with progress_bar("MUNBa", Console(file=screen, force_terminal=True, width=160)) as watch:
        amnesty.unlearn(tiny.task(), MUNBa(epochs=1, at_least=0, batch_size=54), progress=watch)
    text = screen.getvalue()
    for part in ("MUNBa", "2/2", "forget", "retain", "cos"):
        assert part in text


def test_unlearn_shows_a_bar_when_asked(capsys):
    amnesty.unlearn(tiny.task(), MUNBa(epochs=1, at_least=0), progress=True)
    shown = capsys.readouterr().out
    amnesty.unlearn(tiny.task(), MUNBa(epochs=1, at_least=0))
    assert shown != capsys.readouterr().out == ""
