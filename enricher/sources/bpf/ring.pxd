# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles ring.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.sources.bpf cimport wire

cdef unsigned int _BUSY
cdef unsigned int _DISCARD
cdef unsigned int _LENGTH
cdef int _HEADER
cdef Py_ssize_t _BEGIN
cdef int _VERSION
cdef int _CONTEXT
cdef int _TALLY
cdef int _CGROUP
cdef int _WALK

cdef class Ring:
    cdef public int fd
    cdef public bint parked
    cdef public long long unknown
    cdef unsigned long long _mask
    cdef object _consumer_map
    cdef object _producer_map
    cdef object _consumer_view
    cdef object _consumer
    cdef object _whole
    cdef object _producer
    cdef object _data
    cdef object _words
    cdef unsigned long long _position

    @cython.locals(position="unsigned long long", end="unsigned long long", at=Py_ssize_t,
                   mask="unsigned long long", word="unsigned int", length="unsigned int", kind=int, version=int,
                   message=bytes)
    cpdef bint drain(self, list contexts, list tallies, list cgroups, list facts, object tap=*)
