"""``python -m wirt`` is the command ``wirt``."""

from wirt.cli import main

main()
