# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles serviceoutput.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cdef class ServiceOutput:
    cdef object _facts
    cdef object _names
    cdef object _clock
    cdef object _say
    cdef object _held
    cdef long long _held_bytes
    cdef object _dropped
    cdef double _retry_at
    cdef str _told
    cdef long long _before
    cdef long long _rotations
    cdef public long long failed
    cdef public str error
    cdef public object latency
    cdef public object followers
    cdef public object journal
    cdef public object routes
    cdef object _around
    cdef public object cgroups
    cdef object _json
    cdef object _group
    cdef object _sink
    cdef object _filter
    cdef bint _skip_self
    cdef public object path
    cdef public object format
    cdef object _view
    cdef object _own
    cdef bint _rich
    cdef bint _plain

    cpdef emit(self, list events)

    cdef _emit_once(self, list events)

    cdef _write(self, list events, list lines)

    cdef long long _try(self, list lines) except -1

    cdef _advise(self)
