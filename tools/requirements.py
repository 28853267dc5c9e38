"""Print the requirements of pyproject.toml's optional groups: `python tools/requirements.py test lint`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
for group in sys.argv[1:]:
    print("\n".join(requirement.replace(" ", "") for requirement in project["optional-dependencies"][group]))
