# SPDX-License-Identifier: Apache-2.0
# What writing.py does, for modules that Cython compiles: the same texts, without an object for each piece. See
# docs/adr/0022-hot-modules-compiled.md.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy

cdef enum:
    _KEPT = 1048576  # bytes that are kept for the next text
    _DIGITS = 20  # of 64 bits

cdef inline bytearray fresh():
    return bytearray(8192)

cdef inline Py_ssize_t begin(bytearray out) except -2:
    if PyByteArray_GET_SIZE(out) > _KEPT:
        PyByteArray_Resize(out, 8192)
    return 0

cdef inline Py_ssize_t back(bytearray out, Py_ssize_t at) noexcept:
    return at

cdef inline char *_room(bytearray out, Py_ssize_t at, Py_ssize_t size) except NULL:
    if PyByteArray_GET_SIZE(out) - at < size:
        PyByteArray_Resize(out, 2 * (at + size))
    return PyByteArray_AS_STRING(out) + at

cdef inline Py_ssize_t put(bytearray out, Py_ssize_t at, bytes piece) except -2:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(piece)
    memcpy(_room(out, at, size), PyBytes_AS_STRING(piece), size)
    return at + size

cdef inline Py_ssize_t put_two(bytearray out, Py_ssize_t at, bytes first, bytes second) except -2:
    return put(out, put(out, at, first), second)

cdef inline Py_ssize_t put_three(bytearray out, Py_ssize_t at, bytes first, bytes second, bytes third) except -2:
    return put(out, put(out, put(out, at, first), second), third)

cdef inline Py_ssize_t put_part(
    bytearray out, Py_ssize_t at, bytes before, const unsigned char *data, Py_ssize_t start, Py_ssize_t end
) except -2:
    cdef Py_ssize_t size
    at = put(out, at, before)
    size = end - start
    if size > 0:
        memcpy(_room(out, at, size), data + start, size)
        at += size
    return at

cdef inline Py_ssize_t put_number(bytearray out, Py_ssize_t at, bytes before, unsigned long long number) except -2:
    cdef char digits[_DIGITS]
    cdef int first = _DIGITS
    cdef Py_ssize_t size = PyBytes_GET_SIZE(before)
    cdef char *into = _room(out, at, size + _DIGITS)
    memcpy(into, PyBytes_AS_STRING(before), size)
    while True:
        first -= 1
        digits[first] = <char>(0x30 + number % 10)
        number //= 10
        if number == 0:
            break
    memcpy(into + size, digits + first, _DIGITS - first)
    return at + size + _DIGITS - first

cdef inline Py_ssize_t put_replaced(bytearray out, Py_ssize_t at, bytes data, bytes by) except -2:
    cdef const char *each = PyBytes_AS_STRING(data)
    cdef Py_ssize_t left = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t size
    cdef const char *found
    while left > 0:
        found = <const char *>memchr(each, 0, left)
        size = left if found == NULL else found - each
        memcpy(_room(out, at, size), each, size)
        at += size
        if found == NULL:
            break
        at = put(out, at, by)
        each = found + 1
        left -= size + 1
    return at

cdef inline bytes taken(bytearray out, Py_ssize_t at):
    return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(out), at)

cdef inline bytes taken_with(bytearray out, Py_ssize_t at, bytearray behind, Py_ssize_t end, bytes last):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(last)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, at + end + size)
    cdef char *into = PyBytes_AS_STRING(made)
    memcpy(into, PyByteArray_AS_STRING(out), at)
    memcpy(into + at, PyByteArray_AS_STRING(behind), end)
    memcpy(into + at + end, PyBytes_AS_STRING(last), size)
    return made
