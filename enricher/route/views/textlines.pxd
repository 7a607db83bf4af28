# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles textlines.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan
from enricher.model cimport Event, Record

cdef bytes _BEGIN
cdef int _USUAL
cdef dict _prefixes
cdef list _usual
cdef int SYSCALL
cdef int EOE
cdef int PROCTITLE
cdef dict _ends

cpdef bytes prefix_of(object record_type)

@cython.locals(records=list, record=Record, parts=list, text=bytes, syscall=bint, title=Py_ssize_t, end=Py_ssize_t, number=int,
               prefix=bytes, place=Py_ssize_t, last=bytes)
cpdef bytes bare(Event event)

cdef Py_ssize_t _place(Py_ssize_t title, Py_ssize_t end, Py_ssize_t last)

cdef bytes _end(object reason)
