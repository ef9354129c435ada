"""``python -m amnesty`` is the command ``amnesty``."""

from amnesty.cli import main

main()
