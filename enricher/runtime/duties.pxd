# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles duties.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.clock cimport TurnClock
from enricher.runtime.serviceoutput cimport ServiceOutput

cdef class Duties:
    cdef TurnClock _clock
    cdef ServiceOutput _output
    cdef double _calm
    # Its module may not be there.
    cdef public object journal
    cdef public double next

    @cython.locals(now=double, output=ServiceOutput, journal=object, patience=double)
    cpdef double wait(self, str told) except? -2
