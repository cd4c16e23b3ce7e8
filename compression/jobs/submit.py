"""Requests into the queue, each once: what is measured, queued or at work already is not queued a second time.

A request that asks to be measured again is queued although a result is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cache.record import ExecutorName, RunRecord
from cache.store import own_store
from compression.environment import lanes
from compression.jobs.control import send
from compression.jobs.local import run_log
from compression.jobs.ray_cluster import RayCluster, open_cluster
from compression.jobs.resources import resources_text
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
        TrimboardError: something asked for cannot be used; nothing was queued then. A cluster that goes away in
            between keeps those that it has.
    """
    cluster = None if executor == "local" else open_cluster()
    if cluster:
        for request in requests:
            cluster.check(request)
    questions = _open_all(requests)
    return [_submit(question, cluster) for question in questions]


def _open_all(requests: Sequence[RunRequest]) -> list[Question]:
    """Open each model and data set once."""
    opened: dict[tuple[str, ...], Question] = {}
    questions = []
    for request in requests:
        about = (request.model, request.data, request.classes, request.device)
        question = ask_also(opened[about], request) if about in opened else open_request(request)
        opened[about] = question
        questions.append(question)
    return questions


def _submit(question: Question, cluster: RayCluster | None) -> Submitted:
    key, request = question.spec.key, question.request
    record = None if request.again else find_result(question)
    if record is not None:
        return Submitted(request=request, key=key, state="measured", record=record)
    added = _send(question, cluster) if cluster else _queue_here(question)
    return Submitted(request=request, key=key, state="queued" if added else "waiting")


def _queue_here(question: Question) -> bool:
    key, request = question.spec.key, question.request
    return own_store().queue.submit(question.spec, request, lanes=lanes(request.device), log_file=str(run_log(key)))


def _send(question: Question, cluster: RayCluster) -> bool:
    queue, key = own_store().queue, question.spec.key
    request = cluster.prepared(question.request)
    # The cluster decides on the device, and keeps the log.
    wanted = resources_text(cluster.resources_of(request))
    added = queue.submit(question.spec, request, lanes=wanted, executor="ray")
    if added:
        send(cluster, queue, key)
    return added
