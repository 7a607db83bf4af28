# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles join.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython
from enricher.messages cimport Context, Tally
from enricher.model cimport Event, Record

cdef int _EOE
cdef long long _STANDALONE
cdef long long _SUBJECT
cdef double _REVIEW
cdef double _CUT_SHORT

cdef class Correlator:
    cdef object _limits
    cdef dict _open
    cdef object _given
    cdef dict _finished
    cdef dict _finished_before
    # Nanoseconds since boot are 64 bits without a sign, whoever sent them.
    cdef object _newest
    cdef double _last_record
    cdef double _reviewed
    cdef bint _parked
    cdef public long long events
    cdef public long long incomplete_events
    cdef public long long malformed
    cdef public long long overfull
    cdef public long long forgotten
    cdef public list orphan_contexts
    cdef public bint unsettled

    @cython.locals(done=list, pending=dict, parked=bint, event=Event, record=Record, begin=bytes, text=bytes,
                   collected=list, end=Py_ssize_t, context=Context, context_=Context, tally=Tally, newest="unsigned long long")
    cdef list _feed(self, object records, object contexts, object tallies, double now)

    @cython.locals(event=Event, stamp=bytes)
    cdef Event _event_of(self, bytes text, Py_ssize_t end, double now)

    @cython.locals(event=Event)
    cdef Event _begin(self, bytes stamp, double now)

    @cython.locals(stamp=bytes, event=Event)
    cdef _add_context(self, Context context, double now, list done)

    @cython.locals(stamp=bytes, event=Event)
    cdef _add_tally(self, Tally tally, double now, list done)

    cdef _expect(self, Event event, long long total, list done)

    @cython.locals(stamp=bytes, more=bint)
    cdef _complete(self, Event event, str without_context, list done)

    @cython.locals(event=Event)
    cdef Event _malformed(self, object record, double now)

    @cython.locals(event=Event)
    cdef _review(self, double now, list done)

    cdef str _overdue(self, Event event, double now)

    cdef bint _passed(self, Event event, object moment, object margin, double now)

    cdef _give_out(self, Event event, str reason, list done)

cdef long long _total(Event event)
cdef bint _is_counted(Event event)
cdef bint _is_whole(Event event)
cdef bint _began_inside(Event event)
cdef object _moment(Event event)
cdef str _lost(Event event)
cdef str _or_no_context(Event event, str reason)
