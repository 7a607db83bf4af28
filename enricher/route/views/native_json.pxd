# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles native_json.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan
from enricher cimport writing
from enricher.enrich.cgroups cimport CgroupTable, Home, Inquiry
from enricher.enrich.namespaces cimport Known
from enricher.enrich.whereabouts cimport Whereabouts
from enricher.messages cimport Context, Level
from enricher.model cimport Event, Record
from enricher.route.views.fragments cimport Fragments, Primary, Tail

cdef int SYSCALL
cdef int _SECONDS
cdef long long UNSET
cdef int _SUBJECT
cdef int _OF_SUBJECTS

cdef class NativeJson:
    cdef readonly object _builder
    cdef readonly Fragments _fragments
    cdef Whereabouts _where
    cdef bytearray _out
    cdef dict _enrichments
    cdef dict _times
    cdef dict _hosts
    cdef dict _comms
    cdef dict _logins

    @cython.locals(till=Py_ssize_t, line=bytes, primary=Primary)
    cpdef bytes line(self, Event event)

    @cython.locals(records=bytes, line=bytes, at=Py_ssize_t, tail=Tail)
    cdef bytes _around(self, Event event, Py_ssize_t till, Primary primary)

    @cython.locals(at=Py_ssize_t, about=tuple, enrichment=bytes, out=bytearray)
    cdef bytes _of_a_log(self, Event event, Py_ssize_t till, Primary primary)

    @cython.locals(at=Py_ssize_t, known=Known, home=Home, place=bytes, namespaces=bytes, ending=bytes, out=bytearray, context=Context, first=Record)
    cdef bytes _of_a_task(self, Event event, Py_ssize_t till, Primary primary)

    @cython.locals(stamp=bytes, data="const unsigned char *", size=Py_ssize_t, dot=Py_ssize_t, colon=Py_ssize_t, second=bytes, time=bytes, host=tuple, tail=Tail, out=bytearray, at=Py_ssize_t)
    cdef Py_ssize_t _put_beginning(self, Event event, Primary primary) except -2

    @cython.locals(tail=Tail, comm=bytes, login=bytes, where=Whereabouts, out=bytearray, before=bytes, level=Level)
    cdef Py_ssize_t _put_subject(self, Py_ssize_t at, Context context, Primary primary) except -2

    cdef bytes _comm(self, bytes comm)

    cdef bytes _login(self, Context context)

    cdef bytes _place(self, Home home, Context context)

    cdef bytes _namespaces(self, Known known)

    @cython.locals(written=bytes, cgroups=CgroupTable)
    cdef bytes _with_others(self, Known known, Context context, Home home)

    cdef bytes _ending(self, Event event, str missing, Home home)

    cdef bytes _time(self, bytes second)

    cdef tuple _host(self, Event event)

    cdef bytes _enrichment(self, Event event, tuple about)
