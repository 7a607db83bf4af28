# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles native_json.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.model cimport Event

cdef class NativeJson:
    cdef readonly object _builder
    cdef readonly object _fragments
    cdef dict _enrichments
    cdef dict _times
    cdef dict _hosts

    @cython.locals(records=bytes, line=bytes)
    cpdef bytes line(self, Event event)

    @cython.locals(line=bytes, at=Py_ssize_t)
    cdef bytes _around(self, Event event, bytes records, object primary)

    @cython.locals(stamp=bytes, second=bytes, milliseconds=bytes, time=bytes, host=tuple, about=tuple, enrichment=bytes)
    cdef bytes _of_a_log(self, Event event, bytes records, object primary)

    cdef bytes _time(self, bytes second)

    cdef tuple _host(self, Event event)

    cdef bytes _enrichment(self, Event event, tuple about)
