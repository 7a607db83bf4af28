# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles clock.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cdef class TurnClock:
    cdef public double now

    cpdef double monotonic(self) except? -1
