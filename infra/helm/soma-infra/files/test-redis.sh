# The address that applications use leads to a primary, and a key written is read back.
export REDISCLI_AUTH="$(cat /secrets/infra-password)"
tls=''; [ "$TLS" = false ] || tls='--tls --cacert /tls/ca.crt'
ask() { redis-cli $tls --no-auth-warning --user infra -h "$HOST" "$@"; }
[ "$(ask PING)" = PONG ]
[ "$(ask SET soma:test 42 EX 30)" = OK ]
[ "$(ask GET soma:test)" = 42 ]
ask DEL soma:test >/dev/null
echo 'redis: PONG, wrote and read'
