# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles recent.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cdef class Recent:
    cdef dict _new
    cdef dict _old
    cdef double _begun
    cdef double _kept
    cdef Py_ssize_t _most

    cpdef object get(self, object key, double now)

    cpdef put(self, object key, object value, double now)
