"""How numbers and names are written where people read them. A missing number is a dash, never 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NARROW NO-BREAK SPACE}"
_DISPLAY_NAMES = {
    "munba": "MUNBa",
    "lur": "LUR",
    "salun": "SalUn",
    "ssd": "SSD",
    "finetune": "Fine-tuning",
    "original": "Original",
    "retrain": "Retrained",
    "retrain_again": "Retrained again",
    "reference": "Retrained",  # as the run of a request calls the model that it was given to compare with
}


def method_name(key: str) -> str:
    """A method's key as a name.

    >>> method_name("munba"), method_name("negative_gradient_plus")
    ('MUNBa', 'Negative gradient plus')
    """
    name = _DISPLAY_NAMES.get(key, key.replace("_", " ").strip())
    return name[:1].upper() + name[1:]


def printable(text: str) -> str:
    """The text without control characters: a file must not steer the terminal.

    >>> printable(f"a{chr(27)}[2Jb")
    'a [2Jb'
    """
    return "".join(char if char.isprintable() else " " for char in text)


def plain(text: str, style: str = "") -> Text:
    """The text for a terminal, as it is: brackets in names of files are no markup."""
    from rich.text import Text

    return Text(printable(text), style=style)


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with two digits.

    >>> percent(0.99731).replace(SPACE, " "), percent(None) == DASH
    ('99.73 %', True)
    """
    return DASH if fraction is None else f"{_hundredths(fraction)}{SPACE}%"


def number(fraction: float | None) -> str:
    """As `percent`, without the sign: for columns that carry it in their title."""
    return DASH if fraction is None else _hundredths(fraction)


def share(fraction: float) -> str:
    """A fraction as a whole percentage.

    >>> share(0.274).replace(SPACE, " ")
    '27 %'
    """
    return f"{100 * fraction:.0f}{SPACE}%"


def thousands(count: int) -> str:
    """A count as people write it.

    >>> thousands(45000).replace(SPACE, " ")
    '45 000'
    """
    return f"{count:,}".replace(",", SPACE)


def points(difference: float | None) -> str:
    """A difference of two fractions in percentage points, signed.

    >>> points(0.0027), points(-0.0027) == MINUS + "0.27", points(-1e-9)
    ('+0.27', True, '±0.00')
    """
    if difference is None:
        return DASH
    text = _hundredths(abs(difference))
    if text == "0.00":
        return "±0.00"
    return ("+" if difference > 0 else MINUS) + text


def duration(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> [duration(s).replace(SPACE, " ") for s in (0.25, 3.214, 41.26, 252.0, 7320.0)]
    ['0.25 s', '3.21 s', '41.3 s', '4 min 12 s', '2 h 2 min']
    """
    if seconds is None:
        return DASH
    if round(seconds, 2) < 10:
        return f"{seconds:.2f}{SPACE}s"
    if round(seconds, 1) < 100:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min{SPACE}{rest}{SPACE}s"
    return f"{minutes // 60}{SPACE}h{SPACE}{minutes % 60}{SPACE}min"


def _hundredths(fraction: float) -> str:
    text = f"{100 * fraction:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)
