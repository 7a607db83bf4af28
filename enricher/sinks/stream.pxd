# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles stream.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

@cython.locals(sent=Py_ssize_t)
cdef tuple _write_all(int fd, bytes data)

cdef class _DescriptorSink:
    cdef public long long written
    cdef public object name
    cdef int _fd
    cdef public bint torn

    @cython.locals(mend=bytes, data=bytes, sent=Py_ssize_t)
    cpdef write(self, list lines)

cdef class FileSink(_DescriptorSink):
    cdef public bint new
    cdef public str advice

cdef class StdoutSink(_DescriptorSink):
    pass
