"""Results of parametrised tests as a grid: the marker ``netns_grid``, the fixture ``grid_cell``, ``--netns-grid``.

``places`` says where a test belongs, ``cells`` records what it found, ``writing`` gathers both and writes the page.
Nothing of the lab is imported before a run asks for a grid.
"""

from __future__ import annotations
