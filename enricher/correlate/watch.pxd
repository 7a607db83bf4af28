# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles watch.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.model cimport Event, Record

cdef class Watch:
    cdef bint _expects
    cdef long long _bare
    cdef object _base
    cdef bint _is_blind

    @cython.locals(event=Event, last=Event, record=Record, told=list)
    cpdef list look(self, list done)

    @cython.locals(event=Event)
    cdef _look_for_contexts(self, list done, list told)
