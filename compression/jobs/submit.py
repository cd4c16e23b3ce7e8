"""Requests into the queue, each once: what is measured, queued or at work already is not queued again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cache.record import ExecutorName, RunRecord
from cache.store import own_store
from compression.environment import lanes
from compression.home import home
from compression.pipeline import Question, ask_also, find_result, open_request
from compression.request import RunRequest


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of a request.

    Attributes:
        request: as it was typed.
        key: of its question.
        state: put into the queue; measured before; or in the queue, or at work, already.
        record: the result where it was measured before.
    """

    request: RunRequest
    key: str
    state: Literal["queued", "measured", "waiting"]
    record: RunRecord | None = None


def submit(requests: Sequence[RunRequest], *, executor: ExecutorName = "local") -> list[Submitted]:
    """Queue what is not known, in the given order.

    Args:
        requests: one model and data set at different levels, seeds and methods; opened once.
        executor: what will run them.

    Raises:
        TrimboardError: something asked for cannot be used; nothing was queued then.
    """
    questions = _open_all(requests)
    return [_submit(question, executor) for question in questions]


def _open_all(requests: Sequence[RunRequest]) -> list[Question]:
    """Open each model and data set once."""
    opened: dict[tuple[str, ...], Question] = {}
    questions = []
    for request in requests:
        about = (request.model, request.data, request.classes, request.device)
        question = ask_also(opened[about], request) if about in opened else open_request(request)
        opened.setdefault(about, question)
        questions.append(question)
    return questions


def _submit(question: Question, executor: ExecutorName) -> Submitted:
    key, request = question.spec.key, question.request
    record = find_result(question)
    if record is not None:
        return Submitted(request=request, key=key, state="measured", record=record)
    added = own_store().queue.submit(
        question.spec,
        request,
        lanes=lanes(request.device),
        executor=executor,
        log_file=str(home() / "logs" / f"run-{key[:16]}.log"),
    )
    return Submitted(request=request, key=key, state="queued" if added else "waiting")
