# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles fragments.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan
from enricher.model cimport Record
from enricher.route.views cimport pieces

cdef int SYSCALL
cdef int PATH
cdef int PROCTITLE
cdef int EXECVE
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
    cdef public object _decoder
    cdef public object _generation
    cdef public dict _tails
    cdef public dict _paths
    cdef public dict _wholes
    cdef public dict _calls
    cdef public dict _exits
    cdef public dict _arguments
    cdef public Primary primary

    @cython.locals(record=Record, number=int, text=bytes, head=bytes, made=bytes, parts=list, syscalls=int, execves=int)
    cpdef bytes of(self, list records, bytes stamp)

    cdef bytes _usual(self, int number, bytes text, bytes head)

    @cython.locals(data="const unsigned char *", end=Py_ssize_t, arch=Py_ssize_t, number=Py_ssize_t, success=bytes, outcome=bytes,
                   code_at=Py_ssize_t, code_end=Py_ssize_t, a0_end=Py_ssize_t, a1_end=Py_ssize_t, a2_end=Py_ssize_t,
                   a3_end=Py_ssize_t, items_end=Py_ssize_t, ppid_end=Py_ssize_t, pid_end=Py_ssize_t, rest=bytes, tail=Tail,
                   about=bytes, call=tuple, named=bytes, arguments=tuple, argument=tuple, a0=bytes, a1=bytes, a2=bytes, a3=bytes, written=list,
                   values=list, place=Py_ssize_t, at=Py_ssize_t, key=tuple, known=bytes, registers=bytes, code=bytes, told=bytes, primary=Primary)
    cdef bytes _syscall(self, bytes text, Py_ssize_t begin)

    cdef Tail _tail(self, bytes text)

    @cython.locals(data="const unsigned char *", end=Py_ssize_t, item_end=Py_ssize_t, name_at=Py_ssize_t, name_end=Py_ssize_t,
                   rest_at=Py_ssize_t, inode=Py_ssize_t, known=bytes, name=bytes, quoted=bytes, rest=bytes, members=bytes)
    cdef bytes _path(self, bytes text, Py_ssize_t begin)

    @cython.locals(made=bytes)
    cdef bytes _whole(self, int number, bytes body)
