# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles users.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

from enricher.messages cimport Context

cdef int _USER

cdef class UserMaps:
    cdef object _lives
    cdef Py_ssize_t _limit
    cdef dict _maps
    cdef dict _said
    cdef public long long forgotten

    cpdef bint knows(self, Context context) except -1
