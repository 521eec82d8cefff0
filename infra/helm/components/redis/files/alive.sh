#!/bin/sh
# Alive: answers at all, also while it loads its data.
. /scripts/common.sh
case $(ask_redis "$NODE_HOST" PING) in PONG | *LOADING* | *MASTERDOWN*) exit 0;; *) exit 1;; esac
