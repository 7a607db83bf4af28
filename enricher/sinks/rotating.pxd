# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles rotating.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.sinks.stream cimport FileSink

cdef class RotatingFile:
    cdef public object size
    cdef public object keep
    cdef public long long written
    cdef public long long rotations
    cdef public long long reopened
    cdef public str advice
    cdef object _path
    cdef object _mode
    cdef object _clock
    cdef object _compressor
    cdef object _sealer
    cdef set _troubles
    cdef object _group
    cdef object _gid
    cdef double _retry_at
    cdef double _look_at
    cdef FileSink _file
    cdef object _inode
    cdef bint _regular
    cdef long long _bytes

    @cython.locals(line=bytes, now=double, before="long long")
    cpdef write(self, list lines)

    cdef _begin_seals(self, bytes first)
