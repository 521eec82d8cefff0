#!/bin/sh
# Makes every password of the compose stack once, each in the volume of the service that needs it. A volume that already
# holds one keeps it, as the databases beside it do; taking the volumes away makes new ones.
set -eu
umask 077
make() { # DIRECTORY UID NAME...
  dir=$1 uid=$2; shift 2
  for name in "$@"; do
    [ -s "$dir/$name" ] || head -c 256 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | head -c 32 > "$dir/$name"
    chown "$uid" "$dir/$name"; chmod 0400 "$dir/$name"
  done
  chown "$uid" "$dir"; chmod 0500 "$dir"
}
make /made/postgres 999 postgres-password repmgr-password pgpool-password
make /made/redis 999 infra-password probe-password
make /made/kafka 1000 internal-password admin-password
make /made/vault 100 dev-root-token
make /made/grafana 472 admin-password secret-key
make /made/qdrant 1000 api-key
