# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles journal.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.clock cimport TurnClock
from enricher.enrich.attribution cimport subject_context
from enricher.journalformat cimport numbers_of
from enricher.messages cimport Context
from enricher.model cimport Event
from enricher.recent cimport Recent

cdef long long _AFTER_SERVING

cdef class Journal:
    cdef object _disk
    cdef public object _task
    cdef object _writing
    cdef object _used
    cdef public str path
    cdef object _facts
    cdef object _cgroups
    cdef object _lives
    cdef TurnClock _clock
    cdef object _say
    cdef object _max_size
    cdef object _max_age
    cdef object _waiting
    cdef object _at
    cdef Recent _known
    cdef Recent _born
    cdef dict _known_cgroups
    cdef object _gone
    cdef dict _fresh
    cdef dict _fresh_cgroups
    cdef long long _fresh_size
    cdef dict _removed
    cdef long long _next_context
    cdef long long _next_cgroup
    cdef public long long lost
    cdef public long long failed
    cdef public str error
    cdef object _file

    @cython.locals(event=Event, known=Recent, births=Recent, serials=list, times=list, numbers=list, stamp=tuple,
                   others=bint, now=double, context=Context)
    cpdef take(self, list events)

    cdef _bound(self)

    cdef Py_ssize_t _held(self) except -1

    cpdef bint due(self, double now) except -1
