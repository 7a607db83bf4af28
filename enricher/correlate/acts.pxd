# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles acts.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cdef class _Facts:
    cdef public double since
    cdef public list changes
    cdef public list targets

cdef class Acts:
    cdef object _calls
    cdef object _told
    cdef object _linked
    cdef object _links
    cdef object _packets
    cdef list _due
    cdef list _lives
    cdef public long long forgotten

    cpdef object of(self, bytes stamp)

    cpdef list due(self, double now)
