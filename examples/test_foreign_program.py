"""A program that is not ours: a web server in a host, watched across a restart of the router's NAT.

$ pytest examples/test_foreign_program.py
1 passed in 0.81s
"""

import urllib.request
from typing import Any

from netns_fixtures import Lab


def fetch(url: str) -> int:
    """Runs in a process in the laptop's network."""
    with urllib.request.urlopen(url, timeout=1) as answer:
        return int(answer.status)


def test_web_server_survives_a_nat_rebind(lab: Lab, heals: Any) -> None:
    """New requests get through at once after the router has forgotten everything."""
    router = lab.router("router", nat="moderate")
    laptop = lab.host("laptop", uplink=router)
    server = lab.host("server", uplink=lab.router("centre"))
    # -u: a Python program that writes into a pipe keeps its words to itself otherwise.
    program = server.popen(["python3", "-u", "-m", "http.server", "9000"])
    program.wait_for_output("Serving")

    url = f"http://{server.ip}:9000/"
    with heals(lambda: laptop.run(fetch, url) == 200, within=2):
        router.nat.rebind(address=True)  # another port range and another outside address

    assert router.ip in program.output  # the server's log names the new outside address
