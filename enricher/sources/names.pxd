# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles names.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cdef class HostNames:
    cdef object _clock
    cdef double _lifetime
    cdef double _begin
    cdef long long _generation
    cdef object _ask_user
    cdef object _ask_group
    cdef dict _users
    cdef dict _groups
