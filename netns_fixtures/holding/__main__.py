"""``python -m netns_fixtures.holding FD PLAY NAME FILE [ENGINE]``: started by ``netns-lab up --detach`` only."""

from __future__ import annotations

import json
import os
import signal
import sys

from netns_fixtures.errors import LabError
from netns_fixtures.holding.holder import Holder
from netns_fixtures.holding.places import Held
from netns_fixtures.scenario import load_scenario


def main(fd: int, play: bool, name: str, file: str, link_engine: str | None = None) -> int:
    """Hold a lab; ``fd`` learns when it is up (its name), or why not."""

    def tell(**words: str) -> None:
        nonlocal fd
        if fd >= 0:
            os.write(fd, json.dumps(words).encode())
            os.close(fd)
            fd = -1

    try:
        holder = Holder(load_scenario(file), name, file, link_engine)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: holder.stop())

        def ready(held: Held) -> None:
            tell(up=held.name)

        holder.run(ready, play=play)
    except (LabError, OSError) as error:
        tell(error=str(error))
        print(error, file=sys.stderr)  # noqa: T201 - its standard error is the log of this lab
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2] == "play", *sys.argv[3:]))
