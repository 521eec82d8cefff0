# Shared by Redis nodes and sentinels: looking at the others without a password on any command line.
say() { printf '%s [%s] %s\n' "$(date -u +%FT%TZ)" "$NODE_NAME" "$*" >&2; }
secret() { cat "/secrets/$1"; }
node_host() { printf '%s-%s%s' "$REDIS_SET" "$1" "$REDIS_SUFFIX"; }
sentinel_host() { printf '%s-%s%s' "$SENTINEL_SET" "$1" "$SENTINEL_SUFFIX"; }
tls_args() { [ -z "$TLS_DIR" ] || printf '%s' "--tls --cacert $TLS_DIR/ca.crt"; }
# shellcheck disable=SC2046 # the options are words
ask_redis() { host=$1; shift; REDISCLI_AUTH=$(secret infra-password) timeout 3 redis-cli $(tls_args) --no-auth-warning --user infra -h "$host" -p 6379 "$@" 2>/dev/null; }
# shellcheck disable=SC2046
ask_sentinel() { host=$1; shift; REDISCLI_AUTH=$(secret infra-password) timeout 3 redis-cli $(tls_args) --no-auth-warning -h "$host" -p 26379 "$@" 2>/dev/null; }
role_of() { ask_redis "$1" ROLE | head -n 1; }
primary_by_sentinels() { # the address most recently agreed on; empty when no sentinel answers
  n=0; while [ "$n" -lt "$SENTINEL_COUNT" ]; do
    found=$(ask_sentinel "$(sentinel_host "$n")" SENTINEL get-master-addr-by-name soma | head -n 1)
    case $found in *"$REDIS_SUFFIX") printf '%s' "$found"; return 0;; esac
    n=$((n + 1))
  done
}
primary_by_nodes() { # a node other than this one that says it is the primary
  n=0; while [ "$n" -lt "$REDIS_COUNT" ]; do
    host=$(node_host "$n"); candidate=$host
    if [ "$candidate" != "$NODE_HOST" ] && [ "$(role_of "$candidate")" = master ]; then printf '%s' "$candidate"; return 0; fi
    n=$((n + 1))
  done
}
wait_for_own_name() { # sentinels and replicas talk by name, so the name has to resolve first
  tries=0
  while ! getent hosts "$NODE_HOST" >/dev/null 2>&1; do
    tries=$((tries + 1)); [ "$tries" -lt 60 ] || { say "my own name $NODE_HOST does not resolve"; exit 1; }
    sleep 1
  done
}
