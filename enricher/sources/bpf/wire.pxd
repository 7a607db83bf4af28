# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles wire.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.messages cimport Context, Level, Tally
from enricher.sources.bpf cimport fixed

cdef dict _known_numbers
cdef dict _known_runs
cdef dict _known_comms
cdef dict _known_stamps
cdef Py_ssize_t _TALLY_SIZE
cdef Py_ssize_t _RUN_SIZE
cdef Py_ssize_t _CONTEXT_SIZE
cdef Py_ssize_t _LEVEL_SIZE
cdef Py_ssize_t _STAMP_SIZE
cdef unsigned int _MOST_LEVELS
cdef unsigned int _MOST_RUNS
cdef Py_ssize_t _AT_STAMP
cdef Py_ssize_t _AT_COMM
cdef Py_ssize_t _AT_NUMBERS
cdef object _unpack_context
cdef object _unpack_level
cdef object _unpack_tally
cdef object _unpack_stamp

@cython.locals(stamp=bytes)
cdef bytes _stamp_of(bytes raw)

cdef tuple _runs_of(bytes raw)

cdef bytes _comm_of(bytes raw)

cdef tuple _numbers_of(bytes key)

@cython.locals(raw="const unsigned char *", size=Py_ssize_t, end=Py_ssize_t, behind=Py_ssize_t, made=Context, levels=list,
               level=Level, whole="unsigned int", time="unsigned long long", number="unsigned int", flags="unsigned int",
               pid="unsigned int", tid="unsigned int", ppid="unsigned int", auid="unsigned int", ses="unsigned int",
               depth="unsigned int", start="unsigned long long", cgroup="unsigned long long")
cpdef Context decode_context(bytes data, Py_ssize_t at)

@cython.locals(raw="const unsigned char *", size=Py_ssize_t, end=Py_ssize_t, behind=Py_ssize_t, made=Tally, time="unsigned long long",
               records="unsigned int", flags="unsigned int", runs="unsigned int")
cpdef Tally decode_tally(bytes data, Py_ssize_t at)
