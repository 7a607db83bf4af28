# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles fragments.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

cdef bytes _PLAIN
cdef bytes _TITLE_PLAIN
cdef bytes _HEX
cdef bytes _KEY
cdef tuple _NAMES
cdef tuple _SYSCALL_NAMES

cdef class Fragments:
    cdef public object _decoder
    cdef public object _generation
    cdef public dict _heads
    cdef public dict _tails
    cdef public dict _calls
    cdef public dict _exits
    cdef public dict _arguments
    cdef public object primary

    @cython.locals(number=int, text=bytes, made=bytes, parts=list, syscalls=int, execves=int)
    cpdef bytes of(self, list records)

    cdef bytes _usual(self, int number, bytes text)

    @cython.locals(words=list, name=bytes, word=bytes, arch=bytes, number=bytes, success=bytes, code=bytes, a0=bytes,
                   a1=bytes, a2=bytes, a3=bytes, items=bytes, ppid=bytes, pid=bytes, text=bytes, outcome=bytes,
                   named=bytes, told=bytes, registers=bytes)
    cdef bytes _syscall(self, bytes body)

    cdef object _tail(self, int number, bytes text)

    @cython.locals(words=list, item=bytes, inode=bytes, name=bytes)
    cdef bytes _path(self, bytes body)

@cython.locals(end=Py_ssize_t)
cdef bytes _body(bytes text)

cpdef bint is_number(bytes value)

@cython.locals(inner=bytes)
cpdef bytes quoted_of(bytes value)

@cython.locals(value=bytes)
cpdef bytes _directory(bytes body)

@cython.locals(written=bytes, value=bytes)
cpdef bytes _proctitle(bytes body)

@cython.locals(words=list, count=bytes, shown=list, name=bytes, word=bytes, text=bytes, size=Py_ssize_t)
cpdef bytes _arguments(bytes body)
