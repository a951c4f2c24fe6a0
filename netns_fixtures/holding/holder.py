"""The process that holds a lab: builds it, and serves commands until it is told to end."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from netns_fixtures.door import Door
from netns_fixtures.errors import LabError, TopologyError
from netns_fixtures.events import LabEvent
from netns_fixtures.holding.channel import receive, send
from netns_fixtures.holding.places import Claim, Held
from netns_fixtures.lab import Lab
from netns_fixtures.node import Node
from netns_fixtures.playing import Playing
from netns_fixtures.process import HostProcess
from netns_fixtures.scenario import Action, Scenario
from netns_fixtures.scenario.building import call_of
from netns_fixtures.scenario.marked import Marks
from netns_fixtures.stdio import start

#: Events that wait for somebody who watches; who does not read loses the connection, not the lab its memory.
_MAX_WAITING = 10_000


class Holder:
    """Holds the lab of a scenario under a name. ``run`` returns when the lab is down."""

    def __init__(self, scenario: Scenario, name: str, file: str, link_engine: str | None = None) -> None:
        self._scenario = scenario
        self._file = file
        self._claim = Claim(name)
        self._name = name
        self._stop = threading.Event()
        self._playing: Playing | None = None
        self._doors: dict[str, Door] = {}
        self._lock = threading.Lock()
        self.lab: Lab = scenario.lab(link_engine=link_engine)

    def stop(self) -> None:
        """Have ``run`` return soon; also from a signal handler."""
        self._stop.set()

    def run(self, ready: Callable[[Held], None], *, play: bool = False) -> None:
        """Build, tell ``ready``, and serve. Raises what building raises, and TimelineError when it played."""
        listening = None
        try:
            self._scenario.set_up(self.lab)
            self._scenario.start(self.lab)
            listening = self._claim.listen()
            held = self._describe()
            self._claim.publish(held)
            ready(held)
            if play:
                self._play()
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            self._stop.wait()
        finally:
            if self._playing is not None:
                self._playing.cancel()
            self._claim.release()
            if listening is not None:
                listening.close()
            self.lab.close()

    def _describe(self) -> Held:
        lab = self.lab
        hosts, routers = tuple(lab.hosts), tuple(lab.routers)
        return Held(self._name, os.getpid(), time.time(), self._file, hosts, routers, lab.seed)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                channel, _address = listening.accept()
                threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel: socket.socket) -> None:
        with channel, contextlib.suppress(EOFError, OSError):  # who asked is gone, and wants no answer
            request, fds = receive(channel)
            try:
                answer = self._answer(channel, request, fds)
            except (LabError, OSError, ValueError, TypeError) as error:
                answer = {"error": str(error)}
            finally:
                for fd in fds:
                    os.close(fd)
            send(channel, answer)

    def _answer(self, channel: socket.socket, request: dict[str, Any], fds: list[int]) -> Any:
        match request["ask"]:
            case "verb":
                return self._verb(request)
            case "run":
                return self._run(channel, request, fds)
            case "events":
                return self._events(channel, follow=bool(request["follow"]))
            case "enter":
                return {"command": self._door(request["node"]).command()}
            case "save":
                return {"text": str(Scenario.of(self.lab))}
            case "play":
                return self._play()
            case "down":
                self.stop()
                return {}
            case other:
                return {"error": f"unknown request {other!r}"}

    def _verb(self, request: dict[str, Any]) -> dict[str, Any]:
        target, dot, verb = str(request["verb"]).rpartition(".")
        if not dot:
            raise TopologyError(f"{verb!r} is no verb: write what it is done to, such as 'laptop.link.down'")
        places, names = request["args"], request["kwargs"]
        action = Action(target, verb, names or tuple(places))
        if places and names:
            raise TopologyError("write all arguments by name, or none")
        before = len(self.lab.events)
        call, arguments = call_of(self.lab, action, Marks(request["verb"]))
        call(**arguments)
        return {"events": [event.text for event in self.lab.events[before:]]}

    def _run(self, channel: socket.socket, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        program = start(
            self._node(request["node"]),
            request["argv"],
            fds,
            env=request["env"],
            cwd=request["cwd"],
            terminal=request["terminal"],
        )
        # Ours would keep a terminal or a pipe open when the program has ended.
        while fds:
            os.close(fds.pop())
        send(channel, {"pid": program.pid})
        threading.Thread(target=_obey, args=(channel, program), daemon=True).start()
        return {"status": program.wait()}

    def _events(self, channel: socket.socket, *, follow: bool) -> dict[str, Any]:
        waiting: queue.Queue[LabEvent] = queue.Queue(_MAX_WAITING)
        lost = threading.Event()

        def put(event: LabEvent) -> None:
            try:
                waiting.put_nowait(event)
            except queue.Full:
                lost.set()

        end = self.lab.on_event(put) if follow else None
        zero = self.lab.events[0].time
        try:
            for event in self.lab.events:
                _send_event(channel, event, zero)
            while follow and not lost.is_set():
                event = waiting.get()
                _send_event(channel, event, zero)
                if event.kind == "lab_closed":
                    break
        finally:
            if end is not None:
                end()
        return {}

    def _play(self) -> dict[str, Any]:
        with self._lock:
            if self._playing is not None and not self._playing.over:
                raise LabError("the timeline is being played already")
            timeline = self._scenario.timeline(self.lab)
            self._playing = timeline.running().start()
        return {"steps": len(timeline.steps), "duration": timeline.duration}

    def _door(self, name: str) -> Door:
        with self._lock:
            if name not in self._doors:
                self._doors[name] = Door(self._node(name))
            return self._doors[name]

    def _node(self, name: str) -> Node:
        nodes: dict[str, Any] = {**self.lab.hosts, **self.lab.routers}
        if name not in nodes:
            raise TopologyError(f"no host named {name!r}; there are {', '.join(nodes)}")
        found: Node = nodes[name]
        return found


def _obey(channel: socket.socket, program: HostProcess) -> None:
    """Pass signals on to a program; when who asked for it is gone, it ends, too."""
    with contextlib.suppress(EOFError, OSError, ValueError):
        while True:
            request, _fds = receive(channel)
            program.send_signal(int(request["signal"]))
    program.terminate()


def _send_event(channel: socket.socket, event: LabEvent, zero: float) -> None:
    send(
        channel,
        {
            "time": event.time - zero,
            "kind": event.kind,
            "node": event.node,
            "text": event.text,
            "data": event.data,
        },
    )
