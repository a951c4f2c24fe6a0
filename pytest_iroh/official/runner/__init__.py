"""The program that runs inside the virtual environment of the official bindings: stdlib and ``iroh`` only.

It imports nothing of the rest of pytest_iroh: that virtual environment has none of its dependencies.
"""
