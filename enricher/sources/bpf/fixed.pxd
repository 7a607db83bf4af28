# SPDX-License-Identifier: Apache-2.0
# What fixed.py does, for wire.py as Cython compiles it: the layout is that of bpf/include/events.h, as in `wire`. See
# docs/adr/0022-hot-modules-compiled.md.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef packed struct _Header:
    uint16_t type
    uint16_t version
    uint32_t size
    uint64_t time

cdef packed struct _Stamp:
    uint64_t seconds
    uint32_t milliseconds
    uint32_t serial

cdef packed struct _Context:
    _Header header
    _Stamp stamp
    uint16_t record_type
    uint16_t flags
    uint32_t missing
    uint32_t pid
    uint32_t tid
    uint32_t ppid
    uint32_t auid
    uint32_t ses
    uint32_t levels
    uint64_t start
    uint64_t cgroup_id

cdef packed struct _Level:
    uint32_t ns
    uint32_t pid

cdef packed struct _Tally:
    _Header header
    _Stamp stamp
    uint32_t records
    uint16_t flags
    uint16_t runs

ctypedef (
    unsigned int, unsigned long long, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
    unsigned int, unsigned int, unsigned long long, unsigned long long
) ContextNumbers
ctypedef (unsigned int, unsigned int) LevelNumbers
ctypedef (unsigned long long, unsigned int, unsigned int, unsigned int) TallyNumbers

cdef inline ContextNumbers context(object unpack, const unsigned char *data, Py_ssize_t at) noexcept:
    cdef _Context told
    memcpy(&told, data + at, sizeof(told))
    return (
        told.header.size, told.header.time, told.record_type, told.flags, told.pid, told.tid, told.ppid, told.auid,
        told.ses, told.levels, told.start, told.cgroup_id
    )

cdef inline LevelNumbers level(object unpack, const unsigned char *data, Py_ssize_t at) noexcept:
    cdef _Level told
    memcpy(&told, data + at, sizeof(told))
    return (told.ns, told.pid)

cdef inline TallyNumbers tally(object unpack, const unsigned char *data, Py_ssize_t at) noexcept:
    cdef _Tally told
    memcpy(&told, data + at, sizeof(told))
    return (told.header.time, told.records, told.flags, told.runs)

cdef inline char *_digits(char *end, unsigned long long number, int least) noexcept:
    # Written from the last to the first, which is where the result points to.
    while number or least > 0:
        end -= 1
        end[0] = <char>(0x30 + number % 10)
        number //= 10
        least -= 1
    return end

cdef inline bytes stamp(object unpack, const unsigned char *data, Py_ssize_t at):
    cdef _Stamp told
    cdef char text[64]  # 20 digits, twice 10, and two signs
    cdef char *end = text + sizeof(text)
    cdef char *begin
    memcpy(&told, data + at, sizeof(told))
    begin = _digits(end, told.serial, 1) - 1
    begin[0] = 0x3A
    begin = _digits(begin, told.milliseconds, 3) - 1
    begin[0] = 0x2E
    begin = _digits(begin, told.seconds, 1)
    return PyBytes_FromStringAndSize(begin, end - begin)
