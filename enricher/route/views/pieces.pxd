# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles pieces.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

from enricher cimport scan
from enricher cimport writing
from enricher.model cimport Record

cdef int EXECVE
cdef int SAFE_DIGITS
cdef int _SPACE
cdef int _QUOTE
cdef int _MINUS
cdef int _ZERO
cdef bytes _TITLE
cdef bytes _COUNT
cdef tuple _NAMES
cdef bytes _ADDRESS
cdef int _AF_LOCAL
cdef int _AF_INET
cdef int _AF_INET6
cdef int _INET
cdef int _INET6
cdef int _SCOPED
cdef bytes _ZEROS
cdef int _SHORT

@cython.locals(begin=Py_ssize_t, stop=Py_ssize_t)
cdef Py_ssize_t number_behind(const unsigned char *data, bytes name, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(begin=Py_ssize_t, stop=Py_ssize_t)
cdef Py_ssize_t word_behind(const unsigned char *data, bytes name, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(stop=Py_ssize_t)
cdef Py_ssize_t result_at(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(data="const unsigned char *", last=Py_ssize_t, value=bytes, found=bytes, shown=bytes)
cdef Py_ssize_t put_quoted(bytearray out, Py_ssize_t to, bytes text, Py_ssize_t at, Py_ssize_t end) except -2

@cython.locals(data="const unsigned char *", end=Py_ssize_t, at=Py_ssize_t, last=Py_ssize_t, size=Py_ssize_t, value=bytes, found=bytes)
cdef Py_ssize_t put_title(bytearray out, Py_ssize_t to, bytes text, Py_ssize_t begin) except -2

@cython.locals(shown=Py_ssize_t, count="long long", record=Record, data="const unsigned char *", text=bytes, end=Py_ssize_t,
               at=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t, name=bytes, value_at=Py_ssize_t)
cdef Py_ssize_t put_command(bytearray out, Py_ssize_t to, list records, bytes head) except -2

@cython.locals(data="const unsigned char *", end=Py_ssize_t, at=Py_ssize_t, found=bytes, socket="const unsigned char *", size=Py_ssize_t,
               family=int, stop=Py_ssize_t, shown=bytes)
cdef Py_ssize_t put_address(bytearray out, Py_ssize_t to, bytes text, Py_ssize_t begin) except -2
