# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles logjoin.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher.model cimport Event, Record
from enricher.sources.logformat cimport LogRecord

cdef long long PROCTITLE
cdef long long _RECORD
cdef long long _GENERATION

@cython.freelist(1024)
cdef class _Held:
    cdef bytes key
    cdef Event event
    cdef list records
    cdef long long size
    cdef bint over
    cdef bint titled
    cdef long long begun
    cdef object moved

cdef class LogJoin:
    cdef object _limits
    cdef long long _most_open
    cdef long long _most_bytes
    cdef long long _further
    cdef object _queue
    cdef dict _open
    cdef long long _size
    cdef dict _closed
    cdef dict _closed_before
    cdef long long _begun
    cdef bytes _second
    # Seconds of a stamp have up to 19 digits, whoever wrote them: more than C's types hold.
    cdef object _at
    cdef object _clock
    cdef object _highest
    cdef object _moved
    cdef public long long events
    cdef public long long malformed
    cdef public long long further_parts
    cdef public long long overfull

    @cython.locals(each=LogRecord, record=Record, done=list, events=dict, most="long long", node=bytes, stamp=bytes, before=bytes, name=bytes,
                   number="long long", alone=bint, key=bytes,
                   known=_Held, held=_Held, size="long long")
    cpdef list feed(self, list batch)

    @cython.locals(event=Event, held=_Held)
    cdef _Held _begin(self, bytes key, bytes node, bytes stamp, list done)

    @cython.locals(event=Event, held=_Held)
    cdef _Held _malformed(self)

    cdef _tick(self, object second)

    @cython.locals(queue=object, head=_Held)
    cdef _release(self, list done)

    @cython.locals(begun="long long")
    cdef bint _has_passed(self, _Held held)

    @cython.locals(held=_Held)
    cdef _give_out(self, list done)

    cdef _close(self, _Held held)
