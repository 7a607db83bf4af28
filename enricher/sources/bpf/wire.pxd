# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles wire.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

cdef dict _known_numbers
cdef dict _known_runs
cdef dict _known_comms
cdef Py_ssize_t _TALLY_SIZE
cdef Py_ssize_t _RUN_SIZE
cdef dict _known_stamps
cdef Py_ssize_t _CONTEXT_SIZE
cdef Py_ssize_t _LEVEL_SIZE

@cython.locals(seconds="unsigned long long", milliseconds="unsigned int", serial="unsigned int")
cdef bytes _stamp_of(bytes raw)

cdef tuple _runs_of(bytes raw)

cdef bytes _comm_of(bytes raw)

cdef tuple _numbers_of(bytes key)

@cython.locals(size=object, levels=Py_ssize_t, end=Py_ssize_t, behind=Py_ssize_t, stamp=bytes, key=bytes, comm=bytes)
cpdef object decode_context(bytes data, Py_ssize_t at)

@cython.locals(runs=Py_ssize_t, end=Py_ssize_t, behind=Py_ssize_t, stamp=bytes)
cpdef object decode_tally(bytes data, Py_ssize_t at)
