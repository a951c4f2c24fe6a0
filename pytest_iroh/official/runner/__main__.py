"""Start of the program: ``python -I .../official/runner --control SOCKET --log FILE``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

# Last, not first: the modules beside this package must never hide the standard library's ``venv``.
sys.path.append(str(Path(__file__).resolve().parent.parent))

importlib.import_module("runner.session").main()
