# SPDX-License-Identifier: Apache-2.0
# What mmsg.py does, for the receiver that Cython compiles: the same records, with C's own structures. See
# docs/adr/0022-hot-modules-compiled.md.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport uint16_t, uint32_t

from enricher.model cimport Record

cdef extern from "<sys/socket.h>":
    int MSG_DONTWAIT
    cdef struct msghdr:
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int recvmmsg(int fd, mmsghdr *headers, unsigned int count, int flags, void *timeout)

cdef extern from "<linux/netlink.h>":
    cdef struct sockaddr_nl:
        uint32_t nl_pid
    cdef struct nlmsghdr:
        uint16_t nlmsg_type

cdef enum:
    SLOT = 16448

cdef inline int fill(int fd, object headers, unsigned int count) except? -1:
    cdef Py_buffer view
    cdef int n
    PyObject_GetBuffer(headers, &view, PyBUF_SIMPLE)
    n = 0
    if count * sizeof(mmsghdr) <= <size_t>view.len:
        n = recvmmsg(fd, <mmsghdr *>view.buf, count, MSG_DONTWAIT, NULL)
        if n < 0:
            n = -errno
    PyBuffer_Release(&view)
    return n

cdef inline list plain(object headers, object names, object slots, Py_ssize_t count):
    cdef Py_buffer header_view, name_view, slot_view
    cdef mmsghdr *header
    cdef sockaddr_nl *name
    cdef const char *slot
    cdef Record record
    cdef list records = []
    cdef Py_ssize_t i, length
    PyObject_GetBuffer(headers, &header_view, PyBUF_SIMPLE)
    PyObject_GetBuffer(names, &name_view, PyBUF_SIMPLE)
    PyObject_GetBuffer(slots, &slot_view, PyBUF_SIMPLE)
    header, name, slot = <mmsghdr *>header_view.buf, <sockaddr_nl *>name_view.buf, <const char *>slot_view.buf
    try:
        for i in range(count):
            length = header[i].msg_len
            if header[i].msg_hdr.msg_flags or name[i].nl_pid or length < <Py_ssize_t>sizeof(nlmsghdr):
                return None
            record = Record.__new__(Record)
            record.type = (<const nlmsghdr *>slot).nlmsg_type
            record.text = PyBytes_FromStringAndSize(slot + sizeof(nlmsghdr), length - sizeof(nlmsghdr))
            record.truncated = False
            records.append(record)
            slot += SLOT
    finally:
        PyBuffer_Release(&header_view)
        PyBuffer_Release(&name_view)
        PyBuffer_Release(&slot_view)
    return records
