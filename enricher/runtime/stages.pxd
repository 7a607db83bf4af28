# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles stages.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython
from enricher.correlate.acts cimport Acts
from enricher.correlate.join cimport Correlator
from enricher.correlate.ledger cimport Ledger
from enricher.correlate.watch cimport Watch
from enricher.messages cimport Context
from enricher.model cimport Event

cdef class Stages:
    cdef object _learn
    cdef public object fill
    cdef public Correlator correlator
    cdef public Acts acts
    cdef public Ledger ledger
    cdef Watch _watch
    cdef object _emit
    cdef long long _pid
    cdef bytes _needle
    cdef dict _helpers
    cdef str _run
    cdef str _degraded
    cdef long long _made
    cdef dict _told
    cdef dict _limited
    cdef bytes _last
    cdef object _owed_since

    @cython.locals(done=list)
    cpdef list take(self, object batch)

    @cython.locals(event=Event, context=Context, number="unsigned int", pid="long long", orphans=list)
    cdef _give(self, list done, double wall)
