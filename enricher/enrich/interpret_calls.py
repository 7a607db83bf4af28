# SPDX-License-Identifier: Apache-2.0
"""Which argument of which system call has a meaning worth telling, and of which kind it is.

Owns the table. Never says what a kind means: `interpret_args` does. A call that is not here, or an argument of it,
is a pointer, a descriptor, a length or a count, or something that nobody has needed yet.

A line is the call's name in the kernel's headers, then PLACE:KIND for each argument; behind @ is the place of
the argument that it depends on. Places are those of the kernel's definition of the call.
"""

from __future__ import annotations

from typing import Final

CALLS: Final = """\
open 1:open 2:modeifmade@1
openat 0:dirfd 2:open 3:modeifmade@2
openat2 0:dirfd
open_by_handle_at 2:open
name_to_handle_at 0:dirfd
mq_open 1:open 2:modeifmade@1
creat 1:mode
mkdir 1:mode
mkdirat 0:dirfd 2:mode
mknod 1:node
mknodat 0:dirfd 2:node
chmod 1:mode
fchmod 1:mode
fchmodat 0:dirfd 2:mode
fchmodat2 0:dirfd 2:mode 3:at
umask 0:mode
chown 1:user 2:group
lchown 1:user 2:group
fchown 1:user 2:group
chown32 1:user 2:group
lchown32 1:user 2:group
fchown32 1:user 2:group
fchownat 0:dirfd 2:user 3:group
access 1:access
faccessat 0:dirfd 2:access
faccessat2 0:dirfd 2:access 3:at
setxattrat 0:dirfd 2:at
getxattrat 0:dirfd 2:at
listxattrat 0:dirfd 2:at
removexattrat 0:dirfd 2:at
file_getattr 0:dirfd
file_setattr 0:dirfd
open_tree_attr 0:dirfd 2:opentree
exit 0:exit
exit_group 0:exit
unlinkat 0:dirfd 2:unlinkat
renameat 0:dirfd 2:dirfd
renameat2 0:dirfd 2:dirfd
linkat 0:dirfd 2:dirfd
symlinkat 1:dirfd
readlinkat 0:dirfd
utimensat 0:dirfd 3:at
utimensat_time64 0:dirfd 3:at
futimesat 0:dirfd
newfstatat 0:dirfd 3:at
fstatat64 0:dirfd 3:at
statx 0:dirfd 2:at
execveat 0:dirfd
lseek 2:seek
_llseek 4:seek
fcntl 1:fcntl 2:fcntlarg@1
fcntl64 1:fcntl 2:fcntlarg@1
ioctl 1:ioctl
dup3 2:fdflags
pipe2 1:fdflags
eventfd2 1:fdflags
epoll_create1 0:fdflags
inotify_init1 0:fdflags
signalfd4 3:fdflags
close_range 2:closerange
memfd_create 1:memfd
getrandom 2:random
mmap 2:prot 3:map
mmap2 2:prot 3:map
mprotect 2:prot
pkey_mprotect 2:prot
madvise 2:advice
shmget 2:shmget
shmat 2:shmat
semget 2:ipcget
msgget 1:ipcget
ipc 0:ipc
rt_sigaction 0:signal
sigaction 0:signal
signal 0:signal
kill 1:signal
tkill 1:signal
tgkill 2:signal
rt_sigqueueinfo 1:signal
rt_tgsigqueueinfo 2:signal
pidfd_send_signal 1:signal
socket 0:domain 1:socktype 2:protocol@0
socketpair 0:domain 1:socktype 2:protocol@0
socketcall 0:socketcall
accept4 3:accept
send 3:message
recv 3:message
sendto 3:message
recvfrom 3:message
sendmsg 2:message
recvmsg 2:message
sendmmsg 3:message
recvmmsg 3:message
recvmmsg_time64 3:message
setsockopt 1:level 2:option@1
getsockopt 1:level 2:option@1
clone 0:clone
unshare 0:namespaces
setns 1:namespaces
setuid 0:user
setuid32 0:user
setgid 0:group
setgid32 0:group
setreuid 0:user 1:user
setreuid32 0:user 1:user
setregid 0:group 1:group
setregid32 0:group 1:group
setresuid 0:user 1:user 2:user
setresuid32 0:user 1:user 2:user
setresgid 0:group 1:group 2:group
setresgid32 0:group 1:group 2:group
setfsuid 0:user
setfsuid32 0:user
setfsgid 0:group
setfsgid32 0:group
getrlimit 0:rlimit
ugetrlimit 0:rlimit
setrlimit 0:rlimit
prlimit64 1:rlimit
getpriority 0:priority
setpriority 0:priority
sched_setscheduler 1:policy
sched_get_priority_max 0:policy
sched_get_priority_min 0:policy
ptrace 0:ptrace 3:ptracedata@0
prctl 0:prctl 1:prctlarg@0 2:ambient@0
seccomp 0:seccomp 1:seccompflags@0
personality 0:personality
bpf 0:bpf
keyctl 0:keyctl
epoll_ctl 1:epoll
futex 1:futex
futex_time64 1:futex
clock_settime 0:clock
clock_settime64 0:clock
clock_adjtime 0:clock
clock_adjtime64 0:clock
mount 3:mount
umount2 1:umount
open_tree 0:dirfd 2:opentree
move_mount 0:dirfd 2:dirfd
fsopen 1:fsopen
fspick 0:dirfd
fsconfig 1:fsconfig
fsmount 1:fsmount 2:mountattr
mount_setattr 0:dirfd 2:at
finit_module 2:module
kexec_load 3:kexec
kexec_file_load 4:kexec
reboot 2:reboot
"""
