# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles ledger.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython
from enricher cimport scan
from enricher.messages cimport Context
from enricher.model cimport Event

cdef long long _STANDALONE
cdef long long _SUBJECT
cdef int _COLON
cdef long long _SERIALS
cdef long long _HALF
cdef long long _QUARTER

@cython.locals(data="const unsigned char *", end=Py_ssize_t)
cpdef long long serial_of(bytes stamp)

cdef class Ledger:
    cdef bint _blind
    cdef object _start
    cdef public object gap
    cdef bint _start_marked
    cdef object _stop
    cdef bint _stop_marked
    cdef bytes _last
    cdef long long _last_serial
    cdef object _owed
    cdef object _missing_types
    cdef object _missing_first
    cdef object _missing_last
    cdef public long long events
    cdef public long long finished
    cdef public long long delivered
    cdef public long long joined
    cdef public long long without_context
    cdef public long long missing
    cdef public long long incomplete_events
    cdef public long long malformed
    cdef public long long before
    cdef public long long after
    cdef public long long no_subject_events
    cdef public long long self_events

    @cython.locals(stamp=bytes, start="long long", since="long long")
    cpdef bint is_before(self, Event event) except -1

    cpdef bint is_after(self, Event event)

    @cython.locals(event=Event, records="long long", context=Context)
    cpdef account(self, object events)

    @cython.locals(owed="long long", due="long long", short="long long", context=Context)
    cdef _enter(self, Event event, long long records)
