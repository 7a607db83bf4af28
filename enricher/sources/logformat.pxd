# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles logformat.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

@cython.freelist(1024)
cdef class LogRecord:
    cdef readonly bytes node
    cdef readonly bytes stamp
    cdef readonly object record

cdef class Lines:
    cdef object _counts
    cdef dict _prefixes
    cdef list _parts
    cdef Py_ssize_t _kept
    cdef Py_ssize_t _beyond
    cdef bint _return

    @cython.locals(out=list, end=Py_ssize_t, begin=Py_ssize_t)
    cpdef list feed(self, bytes block)

    cdef _keep(self, bytes part)

    @cython.locals(lines=list, prefixes=dict, short=Py_ssize_t, records=Py_ssize_t, blank=Py_ssize_t, stamp=bytes,
                   head=bytes, line=bytes, prefix=bytes, text=bytes, known=tuple, each=LogRecord)
    cdef _take(self, bytes block, list out)

    cdef tuple _known(self, bytes prefix)
