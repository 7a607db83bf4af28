# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles model.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

# By other names: these are not had from here, and what model.py has from there is.
from enricher.messages cimport Context as _Context
from enricher.messages cimport Tally as _Tally

@cython.freelist(4096)
cdef class Record:
    cdef readonly int type
    cdef readonly bytes text
    cdef readonly bint truncated

cdef class Event:
    cdef public bytes stamp
    cdef public double opened
    cdef public list records
    cdef public _Context context
    cdef public _Tally tally
    cdef public long long expected
    cdef public long long part
    cdef public bint malformed
    cdef public object complete
    cdef public str reason
    cdef public bint self_caused
    cdef public object loss
    cdef public object notice
    cdef public str own_id
    cdef public bytes node
    cdef public object recalled
    cdef public object beside
    cdef public object told
