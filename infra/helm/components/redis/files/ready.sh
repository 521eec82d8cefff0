#!/bin/sh
# Ready: answers PING, is not loading, and a replica's link to its primary is up.
set -eu
. /scripts/common.sh
[ "$(ask_redis "$NODE_HOST" PING)" = PONG ]
info=$(ask_redis "$NODE_HOST" INFO replication)
case $info in *role:slave*) case $info in *master_link_status:up*) ;; *) exit 1;; esac;; esac
