"""Who does what, and when? Threads that help one another, where others would wait.

The work comes in phases, each with one task for every share of it. The tasks of a phase may be done
in any order and at the same time; all must be done before the next phase begins. A thread takes
its own share first. Whoever finds a task that nobody has begun does it, whosesoever it was. So a
thread waits only for tasks that are being done: on a crowded machine, where threads lose their core
for milliseconds, the others go on. One thread alone can do everything, and no thread must come.

    while True:
        phase, share = take(turns, worker, yields)    a task, as soon as there is one
        if phase == END: break
        ...                                           do it
        if last_of(turns):                            the thread that completes a phase
            begin(turns, phase + 1)                   begins the next one, a later one, or END

Which thread does a task changes no bit of its result: what a task reads and writes depends on its
share alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npvae.fast.atomics import add_one, call, load, pause, store, swap
from npvae.fast.jit import inlined, jit

CLOSED, END = -1, 1 << 62  # instead of the number of a phase: not begun, and over
MOMENT = 50  # looks, two microseconds, before a thread does what is another's: mostly that comes
SPINS = 300  # looks before the core is offered to another thread
PATIENCE = 3_000_000  # looks before a thread leaves that nobody lets begin: a tenth of a second
LINE = 8  # 64 bits each: numbers of different shares lie in different cache lines


class Turns(NamedTuple):
    """What the threads know of one another, for one call of the compiled code."""

    phase: Any  # (8,) the phase whose tasks can be taken
    done: Any  # (8,) tasks of it that are done
    taken: Any  # (shares, 8) the first phase whose task of this share nobody has taken

    @classmethod
    def of(cls, shares: int) -> Turns:
        numbers = np.zeros((shares + 2, LINE), np.int64)
        numbers[0] = CLOSED
        return cls(numbers[0], numbers[1], numbers[2:])


@inlined
def begin(turns: Turns, phase: int) -> None:
    """Let all threads take the tasks of this phase."""
    store(turns.done, 0)
    store(turns.phase, phase)


@inlined
def last_of(turns: Turns) -> bool:
    """Say that a task is done. Returns whether it was the last one of its phase."""
    return bool(add_one(turns.done) + 1 == len(turns.taken))


@jit
def take(turns: Turns, worker: int, yields: int) -> tuple[int, int]:
    """The phase and share of a task that is now this worker's to do; END if there will be none.

    `yields` is the address of the system's function that offers the core to another thread. (To be
    woken through a lock would cost 50 microseconds, as much as a third of a batch of 32.)
    """
    shares, looks = len(turns.taken), 0
    while True:
        phase = load(turns.phase)
        if phase == END or (phase == CLOSED and looks == PATIENCE):
            return END, 0
        for k in range(shares if looks >= MOMENT else 1):
            share = (worker + k) % shares
            untaken = load(turns.taken[share])
            if untaken <= phase and swap(turns.taken[share], untaken, phase + 1):
                return phase, share
        looks += 1
        pause()
        if looks % SPINS == 0:
            call(yields, 0)
