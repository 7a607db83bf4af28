# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles prefetch.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

cdef class _Side:
    cdef public dict pending
    cdef public list due
    cdef public set asked
    cdef public list resting

cdef class Prefetch:
    cdef public object _lookups
    cdef bint _labels
    cdef _Side _root
    cdef _Side _users
    cdef tuple _sides
    cdef list _answers
    cdef object _told
    cdef long long _made
    cdef double _now
    cdef long long _dropped
    cdef long long _gone

    @cython.locals(side=_Side)
    cpdef bint want(self, object inquiry) except -1

    @cython.locals(side=_Side)
    cpdef turn(self, double now)

    cpdef list take(self)

    cpdef object take_helpers(self)

    @cython.locals(side=_Side, until=double)
    cpdef object wait(self, double now)

    cdef _Side _side(self, object key)

    cdef _put(self, _Side side, object due, object key)

    cdef bint _rest(self, _Side side, object until, object inquiry) except -1

    cdef _ask(self, _Side side, object key, object inquiry)

    @cython.locals(side=_Side)
    cdef _settle(self)
