"""The parts of ``benchmarks/heal_relay.py``: the lab, what happens in it, who is measured, and the table."""
