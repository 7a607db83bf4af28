# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles fragments.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

cdef int SYSCALL
cdef int PATH
cdef int PROCTITLE
cdef bytes _PLAIN
cdef bytes _TITLE_PLAIN
cdef bytes _HEX
cdef bytes _NULL
cdef bytes _KEY
cdef bytes _FURTHER
cdef int _QUOTE
cdef tuple _NAMES
cdef dict _OUTCOMES

cdef class Tail:
    cdef readonly bytes members
    cdef readonly object fields
    cdef readonly object key_names
    cdef readonly bytes keys
    cdef readonly bytes subject
    cdef readonly bytes program
    cdef readonly bytes credentials
    cdef readonly object numbers

@cython.freelist(8)
cdef class Primary:
    cdef readonly bytes pid
    cdef readonly bytes ppid
    cdef readonly bytes outcome
    cdef readonly Tail tail

cdef class Fragments:
    cdef public object _decoder
    cdef public object _generation
    cdef public dict _tails
    cdef public dict _paths
    cdef public dict _wholes
    cdef public dict _calls
    cdef public dict _exits
    cdef public dict _arguments
    cdef public Primary primary

    @cython.locals(number=int, text=bytes, head=bytes, made=bytes, parts=list, syscalls=int, execves=int)
    cpdef bytes of(self, list records, bytes stamp)

    cdef bytes _usual(self, int number, bytes text, bytes head)

    @cython.locals(arch=bytes, number=bytes, success=bytes, code=bytes, a0=bytes, a1=bytes, a2=bytes, a3=bytes,
                   items=bytes, ppid=bytes, pid=bytes, rest=bytes, tail=Tail, call=tuple, named=bytes, told=bytes,
                   registers=bytes)
    cdef bytes _syscall(self, bytes text, Py_ssize_t begin)

    cdef Tail _tail(self, bytes text)

    @cython.locals(item=bytes, written=bytes, inode=bytes, rest=bytes, name=bytes, members=bytes, known=bytes)
    cdef bytes _path(self, bytes text, Py_ssize_t begin)

    @cython.locals(made=bytes)
    cdef bytes _whole(self, int number, bytes body)

@cython.locals(inner=bytes)
cpdef bytes quoted_of(bytes value)

@cython.locals(written=bytes, value=bytes)
cdef bytes _proctitle(bytes text, Py_ssize_t begin)

@cython.locals(words=list, text=bytes, shown=list, name=bytes, word=bytes, written=bytes, value=bytes)
cdef bytes _command(list records, bytes head)
