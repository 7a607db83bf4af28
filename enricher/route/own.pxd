# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles own.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.model cimport Event

cdef class OwnEvents:
    cdef object _initial
    cdef object _around
    cdef object _changes
    cdef bint _lives

    @cython.locals(event=Event)
    cpdef list chosen(self, list events)
