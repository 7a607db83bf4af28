# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles attribution.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.model cimport Event, Record

cdef long long _SUBJECT
cdef long long _KTHREAD
cdef long long _INTERRUPT
cdef long long _AFTER_SERVING
cdef frozenset _PID_IS_CURRENT

cpdef object attribute(Event event)

cpdef object subject_context(Event event)

cdef str _bystander(long long flags)

@cython.locals(start=Py_ssize_t, end=Py_ssize_t, usual=bytes, digits=bytes)
cdef object _other_pid(bytes text, long long pid)

@cython.locals(flags="long long", record=Record, number=int)
cdef str _against(Event event, object context)
