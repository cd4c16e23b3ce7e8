"""A visitor of the dashboard without a browser: it speaks Streamlit's own protocol and drags the slider of Explore.

The server does all for it that it does for a browser, so twenty of them load it like twenty browsers; what browsers do
themselves, drawing above all, would take a machine each. It keeps no answers, as a browser does that was given the same
plot before, so it is sent a little more than one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Origin, Subprotocol

from compression.levels import LEVELS

SLIDER = "Compression level"
# Whoever drags looks at each level for so long, seconds.
PAUSE_S = (0.5, 1.5)
# After so many moves a visitor leaves, and another one comes.
MOVES_PER_VISIT = 60
# Later than that no answer comes any more.
PATIENCE_S = 60.0
_PROTOCOL = Subprotocol("streamlit")
_OVER = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)


@dataclass(kw_only=True)
class Seen:
    """What visitors met.

    Attributes:
        opened_s: from asking for the page to the end of its script, for each visit.
        moved_s: from a move of the slider to the end of what the server sends, for each move.
        sent_bytes: of the answers to moves.
        errors: a line for each exception on a page and for each lost connection.
    """

    opened_s: list[float] = field(default_factory=list)
    moved_s: list[float] = field(default_factory=list)
    sent_bytes: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class _Answer:
    """What a run of a page's script sent."""

    seconds: float
    n_bytes: int = 0
    slider_id: str = ""
    fragment_id: str = ""
    exceptions: list[str] = field(default_factory=list)


async def visit_until(over: Event, address: str, views: Sequence[dict[str, str]], seen: Seen) -> None:
    """Let one visitor for each view come, drag, leave and come again.

    Args:
        over: all leave when it is set.
        address: of the server.
        views: query parameters of Explore, without the level.
        seen: where they write what they met.
    """
    await asyncio.gather(*(_come_again(over, address, view, seen) for view in views))


async def _come_again(over: Event, address: str, view: dict[str, str], seen: Seen) -> None:
    while not over.is_set():
        try:
            await _visit(over, address, view, seen)
        except (OSError, TimeoutError, WebSocketException, ValueError) as error:
            seen.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(1)


async def _visit(over: Event, address: str, view: dict[str, str], seen: Seen) -> None:
    """Open the page, move the slider again and again, and leave.

    Raises:
        ValueError: the page has no slider.
    """
    socket = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
    async with connect(socket, origin=Origin(address), subprotocols=[_PROTOCOL], max_size=None) as connection:
        level = random.choice(LEVELS)
        page = await _run(connection, _state(view, level))
        seen.opened_s.append(page.seconds)
        seen.errors += page.exceptions
        if not page.slider_id:
            raise ValueError(f"the page for {view} has no slider {SLIDER!r}")
        for _ in range(MOVES_PER_VISIT):
            await asyncio.sleep(random.uniform(*PAUSE_S))
            if over.is_set():
                return
            level = random.choice([one for one in LEVELS if abs(one - level) == 1])
            state = _state(view, level)
            state.fragment_id = page.fragment_id
            widget = state.widget_states.widgets.add(id=page.slider_id)
            widget.double_array_value.data.append(level)
            answer = await _run(connection, state)
            seen.moved_s.append(answer.seconds)
            seen.sent_bytes.append(answer.n_bytes)
            seen.errors += answer.exceptions


def _state(view: dict[str, str], level: int) -> ClientState:
    return ClientState(query_string=urlencode({**view, "level": level}), page_name="explore")


async def _run(connection: ClientConnection, state: ClientState) -> _Answer:
    """Ask for a run of the script, and take what it sends."""
    start = time.perf_counter()
    await connection.send(BackMsg(rerun_script=state).SerializeToString())
    answer = _Answer(seconds=0.0)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            payload = await connection.recv()
            assert isinstance(payload, bytes)
            answer.n_bytes += len(payload)
            message = ForwardMsg.FromString(payload)
            _note(answer, message)
            if message.WhichOneof("type") == "script_finished" and message.script_finished in _OVER:
                answer.seconds = time.perf_counter() - start
                return answer


def _note(answer: _Answer, message: ForwardMsg) -> None:
    if message.WhichOneof("type") == "script_finished" and message.script_finished not in _OVER:
        if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
            answer.exceptions.append("the script of the page does not compile")
        return
    element = message.delta.new_element
    kind = element.WhichOneof("type")
    if kind == "exception":
        answer.exceptions.append(f"{element.exception.type}: {element.exception.message}")
    elif kind == "slider" and element.slider.label == SLIDER:
        answer.slider_id, answer.fragment_id = element.slider.id, message.delta.fragment_id
