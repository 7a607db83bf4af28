# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles whereabouts.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.enrich.cgroups cimport Home
from enricher.enrich.namespaces cimport NamespaceEntries

cdef class Whereabouts:
    cdef readonly object around
    cdef readonly NamespaceEntries namespaces
    cdef readonly object packets
    cdef object _initial
    cdef object _cgroups

    @cython.locals(known=Home)
    cpdef Home home_of(self, object seen)

    cpdef ask(self, Home home)
