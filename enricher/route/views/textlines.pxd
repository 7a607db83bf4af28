# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles textlines.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.model cimport Event

cdef bytes _BEGIN
cdef bytes _SPACED
cdef dict _prefixes
cdef dict _ends

cpdef bytes prefix_of(object record_type)

@cython.locals(records=list, parts=list, texts=list, text=bytes, joined=bytes, syscall=bint, title=Py_ssize_t, end=Py_ssize_t, number="long long",
               prefix=bytes, place=Py_ssize_t, last=bytes)
cpdef bytes bare(Event event)

cdef Py_ssize_t _place(Py_ssize_t title, Py_ssize_t end, Py_ssize_t last)

cdef bytes _end(object reason)
