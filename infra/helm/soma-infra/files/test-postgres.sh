# A session through Pgpool reaches the primary, and a row written is read back.
umask 077
printf '*:*:*:postgres:%s\n' "$(cat /secrets/postgres-password)" > /tmp/pass
export PGPASSFILE=/tmp/pass PGCONNECT_TIMEOUT=10
got=$(psql -XAtq -v ON_ERROR_STOP=1 -h "$HOST" -U postgres -d postgres <<'SQL'
create temporary table soma_test (v int);
insert into soma_test values (42);
select v from soma_test;
SQL
)
[ "$got" = 42 ] || { echo "read back: $got" >&2; exit 1; }
echo 'postgres: wrote and read through pgpool'
