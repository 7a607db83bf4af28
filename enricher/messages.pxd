# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles messages.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

@cython.freelist(1024)
cdef class Level:
    cdef readonly unsigned int ns
    cdef readonly unsigned int pid

@cython.freelist(1024)
cdef class Context:
    cdef readonly bytes stamp
    # Nanoseconds since boot are 64 bits without a sign, whoever sent them.
    cdef readonly unsigned long long time
    cdef readonly unsigned int record_type
    cdef readonly unsigned int flags
    cdef readonly unsigned int pid
    cdef readonly unsigned int tid
    cdef readonly unsigned int ppid
    cdef readonly unsigned int auid
    cdef readonly unsigned int ses
    cdef readonly unsigned long long start
    cdef readonly unsigned long long cgroup_id
    cdef readonly bytes comm
    cdef readonly tuple inums
    cdef readonly tuple ids
    cdef readonly tuple levels
    cdef readonly bytes key
    cdef readonly tuple contid

@cython.freelist(1024)
cdef class Tally:
    cdef readonly bytes stamp
    cdef readonly unsigned long long time
    cdef readonly unsigned int flags
    cdef readonly unsigned long long total
    cdef readonly tuple runs
