# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles logformat.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan
from enricher.model cimport Record

cdef int _NEWLINE
cdef int _OPENING
cdef _Prefix _NONE

@cython.freelist(1024)
cdef class LogRecord:
    cdef readonly bytes node
    cdef readonly bytes stamp
    cdef readonly Record record

cdef class _Prefix:
    cdef bytes written
    cdef bytes node
    cdef int number
    cdef _Prefix next

cdef class Lines:
    cdef object _counts
    cdef dict _prefixes
    cdef _Prefix _last
    cdef list _parts
    cdef Py_ssize_t _kept
    cdef Py_ssize_t _beyond
    cdef bint _return

    @cython.locals(out=list, end=Py_ssize_t, begin=Py_ssize_t)
    cpdef list feed(self, bytes block)

    cdef _keep(self, bytes part)

    @cython.locals(data="const unsigned char *", size=Py_ssize_t, short=Py_ssize_t, lines=Py_ssize_t, records=Py_ssize_t,
                   blank=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t, at=Py_ssize_t, stop=Py_ssize_t, stamp=bytes, head=bytes,
                   last=_Prefix, known=_Prefix, record=Record, each=LogRecord)
    cdef _take(self, bytes block, list out)

    @cython.locals(at=Py_ssize_t, found=_Prefix)
    cdef _Prefix _prefix_at(self, bytes block, Py_ssize_t begin, Py_ssize_t end)

    @cython.locals(known=_Prefix, each=_Prefix)
    cdef _Prefix _known(self, bytes prefix)
