# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles whereabouts.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.enrich.cgroups cimport CgroupTable, Home
from enricher.enrich.namespaces cimport NamespaceEntries
from enricher.enrich.users cimport UserMaps
from enricher.messages cimport Context

cdef class Whereabouts:
    cdef readonly object around
    cdef readonly NamespaceEntries namespaces
    cdef readonly object packets
    cdef object _initial
    cdef readonly UserMaps users
    cdef readonly CgroupTable cgroups
    cdef readonly object tenants

    cpdef Home home_of(self, object seen)

    @cython.locals(known=Home)
    cpdef Home home_of_task(self, Context seen)

    cpdef ask(self, Home home)
