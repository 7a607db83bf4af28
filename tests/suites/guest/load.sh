#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs in a guest: a mixed load until the file STOP is there; prints how many rounds it was.
# Usage: load.sh STOP TAG PAUSE. What each round has is what tests/suites/reckoning.py expects of one.
W=/opt/share/workload
ID=$(printf %064x $$)
BOX=/sys/fs/cgroup/system.slice/docker-$ID.scope
mkdir "$BOX" || exit 1
round=0
until [ -e "$1" ]; do
    $W/truth 3 "host-$2-$round"
    $W/nsmake unshare net,uts -- $W/truth 2 "apart-$2-$round"
    (echo 0 >"$BOX/cgroup.procs" && exec $W/truth 2 "box-$ID-$2-$round")
    setpriv --reuid=tester --clear-groups $W/truth 2 "user-$2-$round"
    $W/auditsay 1112 "op=login acct=root uid=0 res=success round=$round" >/dev/null
    round=$((round + 1))
    sleep "$3"
done
rmdir "$BOX"
echo "$round"
