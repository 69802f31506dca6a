"""Who does what, and when? Threads that help one another, where others would wait.

The work comes in phases, each with one task for every share of it. The tasks of a phase may be done
in any order and at the same time; all must be done before the next phase begins. A thread takes
its own share first. Whoever finds a task that nobody has begun does it, whosesoever it was. So a
thread waits only for tasks that are being done: on a crowded machine, where threads lose their core
for milliseconds, the others go on. One thread alone can do everything, and no thread must come.

    while True:
        phase, share = take(job, worker)              a task, as soon as there is one
        if phase == END: break
        ...                                           do it
        if last_of(job):                              the thread that completes a phase
            begin(job, phase + 1)                     begins the next one, a later one, or END

Which thread does a task changes no bit of its result: what a task reads and writes depends on its
share alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.fast.atomics import add_one, call, load, pause, store, swap
from npvae.fast.jit import jit

CLOSED, END = -1, 1 << 62  # instead of the number of a phase: not begun, and over
MOMENT = 50  # looks, two microseconds, before a thread does what is another's: mostly that comes
SPINS = 300  # looks before the core is offered to another thread
PATIENCE = 3_000_000  # looks before a thread leaves that nobody lets begin: a tenth of a second
PHASE, DONE, TAKEN = range(3)  # lines of `turns`


def closed(shares: int) -> NDArray[np.int64]:
    """What the threads know of one another, (S + 2, 8), for one call of the compiled code.

    The phase whose tasks can be taken, the tasks of it that are done, and of each share the first
    phase whose task nobody has taken: each in a cache line of its own.
    """
    turns = np.zeros((TAKEN + shares, 8), np.int64)
    turns[PHASE] = CLOSED
    return turns


@jit
def line(job: Any, k: int) -> int:
    """The address of one of these numbers."""
    return int(job.turns.address + 8 * k * job.turns.pitch)


@jit
def begin(job: Any, phase: int) -> None:
    """Let all threads take the tasks of this phase."""
    store(line(job, DONE), 0)
    store(line(job, PHASE), phase)


@jit
def last_of(job: Any) -> bool:
    """Say that a task is done. Returns whether it was the last one of its phase."""
    return bool(add_one(line(job, DONE)) + 1 == job.turns.length - TAKEN)


@jit
def take(job: Any, worker: int) -> tuple[int, int]:
    """The phase and share of a task that is now this worker's to do; END if there will be none.

    (To be woken through a lock would cost 50 microseconds, as much as a third of a batch of 32.)
    """
    shares, looks = job.turns.length - TAKEN, 0
    while True:
        phase = load(line(job, PHASE))
        if phase == END or (phase == CLOSED and looks == PATIENCE):
            return END, 0
        for k in range(shares if looks >= MOMENT else 1):
            share = (worker + k) % shares
            at = line(job, TAKEN + share)
            untaken = load(at)
            if untaken <= phase and swap(at, untaken, phase + 1):
                return phase, share
        looks += 1
        pause()
        if looks % SPINS == 0:
            call(job.yields, 0)
