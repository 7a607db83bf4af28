# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles namespaces.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.messages cimport Context
from enricher.recent cimport Recent

cdef class Known:
    cdef public object namespaces
    cdef public str missing
    cdef public tuple born
    cdef public long long epoch
    # Nanoseconds since boot are 64 bits without a sign, whoever sent them.
    cdef public object since
    cdef public object until
    cdef public bint owned
    cdef public bytes written
    cdef public object home
    cdef public bytes with_others
    cdef public long long tenants_epoch
    cdef public long long cgroups_epoch

    cpdef hold(self, long long epoch, object since, object until)

cdef class NamespaceEntries:
    cdef object _host
    cdef object _lives
    cdef Recent _known

    @cython.locals(known=Known)
    cpdef tuple of(self, object seen)

    @cython.locals(known=Known, time=object)
    cpdef Known known(self, Context seen)

    @cython.locals(known=Known)
    cdef Known _recalled(self, object seen)

    @cython.locals(known=Known)
    cdef Known _made(self, Context seen, Known before)
