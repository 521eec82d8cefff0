#!/bin/sh
# Starts one sentinel. Rule it guards: which node is the primary comes from the other sentinels or the nodes themselves,
# never from a fixed name, because this pod's state does not outlive it.
set -eu
umask 077
. /scripts/common.sh
conf=/run/redis/sentinel.conf
wait_for_own_name
tries=0
while :; do
  primary=$(primary_by_sentinels); [ -n "$primary" ] || primary=$(primary_by_nodes)
  [ -z "$primary" ] || break
  tries=$((tries + 1)); say "no primary to watch yet ($tries)"; sleep 2
done
say "watching $primary"
{
  cat <<EOF
dir /run/redis
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $NODE_HOST
sentinel announce-port 26379
requirepass $(secret infra-password)
sentinel sentinel-pass $(secret infra-password)
sentinel monitor soma $primary 6379 $QUORUM
sentinel auth-user soma infra
sentinel auth-pass soma $(secret infra-password)
sentinel down-after-milliseconds soma $DOWN_AFTER_MS
sentinel failover-timeout soma $FAILOVER_TIMEOUT_MS
sentinel parallel-syncs soma 1
EOF
  if [ -n "$TLS_DIR" ]; then
    printf 'port 0\ntls-port 26379\ntls-replication yes\ntls-auth-clients no\ntls-cert-file %s/tls.crt\ntls-key-file %s/tls.key\ntls-ca-cert-file %s/ca.crt\n' "$TLS_DIR" "$TLS_DIR" "$TLS_DIR"
  else
    printf 'port 26379\n'
  fi
} > "$conf"
exec redis-sentinel "$conf"
