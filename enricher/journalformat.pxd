# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles journalformat.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan

cdef int _ZERO
cdef int _DOT
cdef int _COLON
cdef long long _SERIALS

@cython.locals(data="const unsigned char *", size=Py_ssize_t, dot=Py_ssize_t, colon=Py_ssize_t, begin=Py_ssize_t,
               serial="long long")
cpdef tuple numbers_of(bytes stamp)

@cython.locals(made=list, before="long long", serial="long long")
cdef list _steps(list serials)

# Twelve digits of seconds and three behind them, doubled.
@cython.locals(made=list, before="long long", time="long long", change="long long")
cdef list _folded(list times, long long ms)
