# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles fragments.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan
from enricher cimport writing
from enricher.model cimport Record
from enricher.route.views cimport pieces

cdef int SYSCALL
cdef int PATH
cdef int PROCTITLE
cdef int EXECVE
cdef int SOCKADDR
cdef bytes _ARCH
cdef bytes _CALL
cdef bytes _SUCCESS
cdef bytes _FAILURE
cdef bytes _A0
cdef bytes _A1
cdef bytes _A2
cdef bytes _A3
cdef bytes _ITEMS
cdef bytes _PPID
cdef bytes _PID
cdef bytes _ITEM
cdef bytes _NAME
cdef bytes _INODE
cdef bytes _NULL
cdef bytes _KEY
cdef bytes _FURTHER
cdef int _SPACE
cdef int _MINUS
cdef tuple _REGISTERS

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
    cdef readonly bytearray out
    cdef public object _decoder
    cdef public object _generation
    cdef public dict _tails
    cdef public dict _paths
    cdef public dict _wholes
    cdef public dict _calls
    cdef public dict _exits
    cdef public dict _arguments
    cdef public Primary primary

    @cython.locals(till=Py_ssize_t)
    cpdef bytes of(self, list records, bytes stamp)

    @cython.locals(record=Record, number=int, text=bytes, head=bytes, out=bytearray, at=Py_ssize_t, till=Py_ssize_t, syscalls=int, execves=int)
    cpdef Py_ssize_t put(self, list records, bytes stamp) except -2

    @cython.locals(data="const unsigned char *", till=Py_ssize_t)
    cdef Py_ssize_t _usual(self, Py_ssize_t to, int number, bytes text, Py_ssize_t begin) except -2

    @cython.locals(data="const unsigned char *", end=Py_ssize_t, arch=Py_ssize_t, number=Py_ssize_t, success=bytes, outcome=bytes,
                   code_at=Py_ssize_t, code_end=Py_ssize_t, a0_end=Py_ssize_t, a1_end=Py_ssize_t, a2_end=Py_ssize_t,
                   a3_end=Py_ssize_t, items_end=Py_ssize_t, ppid_end=Py_ssize_t, pid_end=Py_ssize_t, rest=bytes, tail=Tail,
                   about=bytes, call=tuple, named=bytes, arguments=tuple, out=bytearray, code=bytes, told=bytes, primary=Primary)
    cdef Py_ssize_t _syscall(self, Py_ssize_t to, bytes text, Py_ssize_t begin) except -2

    @cython.locals(data="const unsigned char *", out=bytearray, argument=tuple, a0=bytes, a1=bytes, a2=bytes, a3=bytes, written=list,
                   values=list, place=Py_ssize_t, at=Py_ssize_t, key=tuple, known=bytes, value=bytes)
    cdef Py_ssize_t _put_registers(self, Py_ssize_t to, bytes text, bytes about, tuple arguments, Py_ssize_t code_end,
                                   Py_ssize_t a0_end, Py_ssize_t a1_end, Py_ssize_t a2_end, Py_ssize_t a3_end) except -2

    cdef Tail _tail(self, bytes text)

    @cython.locals(data="const unsigned char *", end=Py_ssize_t, item_end=Py_ssize_t, name_at=Py_ssize_t, name_end=Py_ssize_t,
                   rest_at=Py_ssize_t, inode_at=Py_ssize_t, inode=Py_ssize_t, rest=bytes, members=bytes, out=bytearray)
    cdef Py_ssize_t _path(self, Py_ssize_t to, bytes text, Py_ssize_t begin) except -2

    @cython.locals(made=bytes)
    cdef Py_ssize_t _whole(self, Py_ssize_t to, int number, bytes body) except -2
