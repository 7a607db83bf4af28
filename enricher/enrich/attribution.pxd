# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles attribution.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan
from enricher.messages cimport Context
from enricher.model cimport Event, Record

cdef long long _SUBJECT
cdef long long _KTHREAD
cdef long long _INTERRUPT
cdef long long _AFTER_SERVING
cdef frozenset _PID_IS_CURRENT
cdef bytes _PID
cdef int _SPACE
cdef int SAFE_DIGITS

cpdef object attribute(Event event)

@cython.locals(context=Context)
cpdef Context subject_context(Event event)

cdef str _bystander(long long flags)

@cython.locals(start=Py_ssize_t, data="const unsigned char *", at=Py_ssize_t, end=Py_ssize_t, stop=Py_ssize_t)
cdef object _other_pid(bytes text, long long pid)

@cython.locals(flags="long long", record=Record, number=int)
cdef str _against(Event event, Context context)
