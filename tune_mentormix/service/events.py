"""Progress as server-sent events: one look at the experiment serves all who watch it, however many they are.

Each listener gets the newest state only, so a slow one misses steps and holds nothing back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tune_mentormix.service.guard import problem
from tune_mentormix.service.logs import LOGGER

LOOK_SECONDS = 1.0
ALIVE_SECONDS = 15.0  # between two signs of life, by which a connection that is gone is noticed
LONGEST_SECONDS = 1_800.0  # of one stream: browsers ask anew by themselves, and are then asked for their token anew

Look = Callable[[], dict[str, Any]]


class Topic:
    """One thing that is watched."""

    def __init__(self) -> None:
        self.listeners = 0
        self.message = b""
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Streams:
    """All event streams of a server."""

    def __init__(self, most: int) -> None:
        """At most so many at once."""
        self._most = most
        self._topics: dict[str, Topic] = {}
        self._taken = 0

    @property
    def taken(self) -> int:
        """Streams open now."""
        return self._taken

    def response(self, topic: str, look: Look) -> EventStream:
        """The state now, and again whenever it changed, to one listener.

        Args:
            topic: equal for equal `look`.
            look: what is sent; called in a thread, once for all listeners.
        """
        return EventStream(self, topic, look)

    def close(self) -> None:
        """Ends all looking."""
        for topic in self._topics.values():
            if topic.task:
                topic.task.cancel()

    @contextmanager
    def listening(self, name: str, look: Look) -> Iterator[Topic | None]:
        """One more listener, or None where there is no room for it."""
        if self._taken >= self._most:
            yield None
            return
        self._taken += 1
        topic = self._topics.setdefault(name, Topic())
        topic.listeners += 1
        if topic.task is None:
            topic.task = asyncio.create_task(_watch(topic, look))
        try:
            yield topic
        finally:
            self._taken -= 1
            topic.listeners -= 1
            if not topic.listeners:
                topic.task.cancel()
                self._topics.pop(name, None)


class EventStream(Response):
    """A response that goes on until its listener leaves."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, topic: str, look: Look) -> None:
        """A place is taken when the response begins, and given back when it ends, however it does."""
        super().__init__()
        self._streams, self._topic, self._look = streams, topic, look

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        with self._streams.listening(self._topic, self._look) as topic:
            if topic is None:
                refusal = problem(429, "too many event streams are open: ask again later", {"Retry-After": "10"})
                await refusal(scope, receive, send)
            else:
                await StreamingResponse(_messages(topic), media_type=self.media_type)(scope, receive, send)


async def _messages(topic: Topic) -> AsyncIterator[bytes]:
    seen, clock = b"", asyncio.get_running_loop().time
    until = clock() + LONGEST_SECONDS
    while clock() < until:
        if topic.message != seen:
            seen = topic.message
            yield seen
            continue
        try:
            await asyncio.wait_for(topic.changed.wait(), ALIVE_SECONDS)
        except TimeoutError:
            yield b": still here\n\n"


def as_data(state: dict[str, Any]) -> str:
    """A state as an event has it, on one line; a page says by it how new it is."""
    return json.dumps(state)


async def _watch(topic: Topic, look: Look) -> None:
    while True:
        try:
            state = await asyncio.to_thread(look)
        except Exception as error:
            LOGGER.warning("an event stream cannot be fed: %s", error)
            state = {"error": "it cannot be read now"}
        message = f"event: progress\ndata: {as_data(state)}\n\n".encode()
        if message != topic.message:
            topic.message = message
            topic.changed.set()
            topic.changed = asyncio.Event()
        await asyncio.sleep(LOOK_SECONDS)
