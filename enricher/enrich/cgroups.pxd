# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles cgroups.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

cdef int _USER
cdef int _MNT

cdef class Inquiry:
    cdef bytes _path
    cdef object _shared
    cdef public object cgroup
    cdef public bint removed
    cdef public bint noticed
    cdef public object said
    cdef public bint wants

cdef class Home:
    cdef public bytes path
    cdef public bint removed
    cdef public object ended
    cdef public Inquiry inquiry
    cdef public str where
    cdef public str provenance
    cdef public object cgroup
    cdef public str answered
    cdef public object container
    cdef public bint open
    cdef public str reason
    cdef Home _doubted
    cdef public bytes written
    cdef public bytes ending

    cpdef Home seen_by(self, object inums, object initial)

cdef class CgroupTable:
    cdef object _homes
    cdef object _removed
    cdef dict _own
    cdef dict _known
    cdef Py_ssize_t _limit
    cdef public long long forgotten
    cdef public long long epoch
    cdef public object asker

    cpdef Home of(self, object ident)
