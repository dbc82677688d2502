"""Progress as server-sent events: one read of an experiment serves all its subscribers.

Each subscriber gets the newest state only, so a slow one misses steps and delays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from fastapi import HTTPException
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from tune_mentormix.service.request_logging import LOGGER

READ_SECONDS = 1.0
PING_SECONDS = 15  # by which a connection that is gone is noticed
MAX_SECONDS = 1_800.0  # of one stream: browsers connect again, and are then asked for their token again

Read = Callable[[], str]  # returns the state as JSON


@dataclass
class Topic:
    """A state that is sent whenever it changes."""

    read: Read
    subscribers: int = 0
    data: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def publish(self) -> None:
        """Reads the state every second until it is cancelled."""
        while True:
            try:
                data = await asyncio.to_thread(self.read)
            except Exception as error:
                LOGGER.warning("an event stream cannot be fed: %s", error)
                data = '{"error": "it cannot be read now"}'
            if data != self.data:
                self.data = data
                self.changed.set()
                self.changed = asyncio.Event()
            await asyncio.sleep(READ_SECONDS)


class Broadcaster:
    """All event streams of a server."""

    def __init__(self, max_streams: int) -> None:
        self.open_streams = 0
        self.max_streams = max_streams
        self._topics: dict[str, Topic] = {}

    async def events(self, name: str, read: Read) -> AsyncIterator[ServerSentEvent]:
        """Subscribes until the stream has lasted `MAX_SECONDS`."""
        topic = self._topics.setdefault(name, Topic(read))
        topic.subscribers += 1
        topic.task = topic.task or asyncio.create_task(topic.publish())
        clock, sent = asyncio.get_running_loop().time, ""
        end = clock() + MAX_SECONDS
        try:
            while clock() < end:
                if topic.data == sent:
                    await asyncio.wait_for(topic.changed.wait(), end - clock())
                sent = topic.data
                yield ServerSentEvent(sent, event="progress")
        except TimeoutError:
            return
        finally:
            topic.subscribers -= 1
            if not topic.subscribers:
                topic.task.cancel()
                self._topics.pop(name, None)


class EventStream(EventSourceResponse):
    """Sends a state now, and again whenever it has changed; topics with the same name share one `read`.

    It takes one of the places for streams when it begins, and gives it back however it ends.
    """

    def __init__(self, broadcaster: Broadcaster, topic: str, read: Read) -> None:
        super().__init__(broadcaster.events(topic, read), ping=PING_SECONDS)
        self._broadcaster = broadcaster

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events. Raises HTTPException 429 if too many streams are open."""
        if self._broadcaster.open_streams >= self._broadcaster.max_streams:
            raise HTTPException(429, "too many event streams are open: ask again later", {"Retry-After": "10"})
        self._broadcaster.open_streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._broadcaster.open_streams -= 1
