# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles receiver.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.model cimport Record
from enricher.sources.audit cimport mmsg

cdef class Receiver:
    cdef public long long received
    cdef public long long malformed
    cdef public long long truncated
    cdef public long long foreign
    cdef public long long overflows
    cdef public object _sock
    cdef public int _fd
    cdef public int batch
    cdef public object _drops
    cdef public object _memory
    cdef public object _headers
    cdef public object _vectors
    cdef public object _lengths
    cdef public object _flags
    cdef public object _types
    cdef public object _ports
    cdef public object _names

    @cython.locals(n=int, records=list)
    cpdef list receive(self)

    @cython.locals(n=int)
    cpdef int _fill(self) except -1
