# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles pipeline.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.clock cimport TurnClock
from enricher.correlate.join cimport Correlator
from enricher.model cimport Event
from enricher.runtime.stages cimport Stages

@cython.locals(event=Event, own=Py_ssize_t)
cpdef double pause_after(list events, double before) except? -1

cdef class Pipeline:
    cdef object _socket
    cdef object _loaded
    cdef object _control
    cdef bint _blind
    cdef object _capture
    cdef public TurnClock clock
    cdef object _pid
    cdef public Stages stages
    cdef double _pause
    cdef bint _noisy
    cdef bint _marks
    cdef public double longest_wait
    cdef public dict _serving
    cdef public object _epoll
    cdef object _base
    cdef double _counted
    cdef double _asked
    cdef object _seen
    cdef bint _facts
    cdef object _drops
    cdef double _wall
    cdef double _settled
    cdef object _beside
    cdef object _metadata

    @cython.locals(longest=double)
    cdef double _bounded(self, object wait) except? -1

    @cython.locals(records=list, now=double, done=list, pause=double)
    cdef Py_ssize_t _turn(self) except -1

    cdef list _take(self, list records, list contexts, list tallies, double now, object counts=*)
