#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs in a container, as its first process: executes what the host writes into a FIFO, so that loops run inside.
# Usage: box.sh NAME. /yard/NAME.in takes one command line at a time, /yard/NAME.out gives its exit status.
while :; do
    read -r words <"/yard/$1.in" || continue
    eval "$words"
    echo "$?" >"/yard/$1.out"
done
