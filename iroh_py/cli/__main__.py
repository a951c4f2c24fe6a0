"""``python -m iroh_py.cli`` is ``iroh-py``."""

from iroh_py.cli.main import main

main(prog_name="iroh-py")
