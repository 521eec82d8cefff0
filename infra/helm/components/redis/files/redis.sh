#!/bin/sh
# Starts one Redis node. Rules it guards: the ACL file is made anew from the Secrets at every start and whenever they
# change, so an application's user exists on every node and outlives an ephemeral disk; a node that was the primary never
# takes the role again before the others had their time to promote another.
set -eu
umask 077
. /scripts/common.sh
conf=/run/redis/redis.conf
acl=/run/redis/users.acl

write_acl() { # /users holds one file per application: ACL lines with hashed passwords
  {
    printf 'user default off\n'
    printf 'user infra on #%s ~* &* +@all\n' "$(secret infra-password | tr -d '\n' | sha256sum | cut -d ' ' -f 1)"
    printf 'user probe on #%s resetkeys resetchannels -@all +ping +role +info\n' "$(secret probe-password | tr -d '\n' | sha256sum | cut -d ' ' -f 1)"
    for f in /users/*.acl; do [ ! -f "$f" ] || { cat "$f"; printf '\n'; }; done | sed '/^[[:space:]]*$/d'
  } > "$acl.new"
  mv "$acl.new" "$acl"
}

users_now() { cat /users/*.acl /secrets/* 2>/dev/null | sha256sum; }

# shellcheck disable=SC2086 # the line is words
take_line() { # one line of the file, as the server's user; by standard input, so that no hash is an argument
  set -f; set -- $1; set +f
  [ "$1" = user ] || return 0
  name=$2; shift 2
  answer=$(printf 'ACL SETUSER %s reset %s\n' "$name" "$*" | ask_redis "$NODE_HOST")
  [ "$answer" = OK ] || say "user $name refused, it stays as it was: $answer"
}

take_changes() { # what differs between two files, and nothing else: a user made on the live server a moment ago is not
  # in an older mount yet and must not be lost to it
  cut -d ' ' -f 2 "$1" | while read -r name; do
    grep -q "^user $name " "$2" || { ask_redis "$NODE_HOST" ACL DELUSER "$name" >/dev/null; say "user $name removed"; }
  done
  while read -r line; do grep -Fxq -- "$line" "$1" || take_line "$line"; done < "$2"
}

watch_users() { # the kubelet renews mounted Secrets
  seen=$(users_now)
  while sleep 5; do
    now=$(users_now)
    [ "$now" != "$seen" ] || continue
    cp "$acl" "$acl.old"; write_acl
    take_changes "$acl.old" "$acl"
    say 'users taken over from their Secret'
    seen=$now
  done
}

write_conf() {
  cat > "$conf" <<EOF
dir /data
bind * -::*
protected-mode no
aclfile $acl
maxmemory $MAXMEMORY
maxmemory-policy $MAXMEMORY_POLICY
appendonly yes
appendfsync everysec
save 900 1 300 100
masteruser infra
masterauth $(secret infra-password)
enable-debug-command no
EOF
  if [ -n "$TLS_DIR" ]; then
    cat >> "$conf" <<EOF
port 0
tls-port 6379
tls-cert-file $TLS_DIR/tls.crt
tls-key-file $TLS_DIR/tls.key
tls-ca-cert-file $TLS_DIR/ca.crt
tls-auth-clients no
tls-replication yes
EOF
  else
    printf 'port 6379\n' >> "$conf"
  fi
  if [ "$SENTINEL_COUNT" -gt 0 ]; then
    printf 'replica-announce-ip %s\nreplica-announce-port 6379\n' "$NODE_HOST" >> "$conf"
    # A primary that is cut off from every replica takes no more writes: they would be lost when it learns of the one that the
    # others promoted. With two nodes this would end all writes with the first node lost, so those go on.
    [ "$REDIS_COUNT" -lt 3 ] || printf 'min-replicas-to-write 1\nmin-replicas-max-lag 10\n' >> "$conf"
  fi
}

choose_primary() { # prints the primary to replicate from, or nothing when this node is it
  waited=0
  while :; do
    p=$(primary_by_sentinels); [ -n "$p" ] || p=$(primary_by_nodes)
    if [ -n "$p" ] && [ "$p" != "$NODE_HOST" ] && [ "$(role_of "$p")" = master ]; then printf '%s' "$p"; return 0; fi
    # Only the node the sentinels name, or the first one of a new set, may start as the primary, and only after a wait in
    # which a failover would have shown itself.
    if [ "$waited" -ge "$PROMOTION_WAIT_S" ]; then
      if [ "$p" = "$NODE_HOST" ]; then return 0; fi
      if [ -z "$p" ] && [ "${NODE_NAME##*-}" = 0 ]; then return 0; fi
    fi
    # a new set: nobody holds data yet, so there is nothing to wait for
    if [ -z "$p" ] && [ "${NODE_NAME##*-}" = 0 ] && [ ! -e /data/.was-started ]; then return 0; fi
    say "waiting for a primary (${waited} s; sentinels and nodes say: ${p:-nothing})"
    sleep 2; waited=$((waited + 2))
  done
}

write_acl
write_conf
if [ "$SENTINEL_COUNT" -gt 0 ]; then
  wait_for_own_name
  primary=$(choose_primary)
  if [ -n "$primary" ]; then say "replica of $primary"; printf 'replicaof %s 6379\n' "$primary" >> "$conf"; else say 'starting as the primary'; fi
fi
: > /data/.was-started
watch_users &
exec redis-server "$conf"
