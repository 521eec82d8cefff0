#!/bin/sh
# Starts one KRaft node. Rules it guards: no password on a command line (server.properties is written from the mounted
# Secret into memory); clients authenticate with SCRAM and are denied without an ACL; nodes and the operator use a
# listener of their own, whose users live in the Secret, so that administration works before any SCRAM user exists.
set -eu
umask 077
conf=/run/kafka/server.properties
node_id=${NODE_NAME##*-}
host=$NODE_NAME$NODE_SUFFIX

pkcs8() { # Kafka reads private keys in PKCS#8 only; charts and many tools make PKCS#1 (RSA): wrap it, that is 26 bytes
  if grep -q 'BEGIN PRIVATE KEY' "$1"; then sed -n '/BEGIN PRIVATE KEY/,/END PRIVATE KEY/p' "$1"; return; fi
  grep -q 'BEGIN RSA PRIVATE KEY' "$1" || { echo "the key in $1 is neither PKCS#8 nor RSA" >&2; exit 1; }
  sed '/-----/d' "$1" | tr -d '\n' | base64 -d > /run/kafka/key.der
  n=$(wc -c < /run/kafka/key.der | tr -d ' ')
  be() { printf "\\$(printf '%03o' $(($1 / 256)))\\$(printf '%03o' $(($1 % 256)))"; }
  printf -- '-----BEGIN PRIVATE KEY-----\n'
  {
    printf '\060\202'; be $((n + 22))
    printf '\002\001\000\060\015\006\011\052\206\110\206\367\015\001\001\001\005\000\004\202'; be "$n"
    cat /run/kafka/key.der
  } | base64 | tr -d '\n' | sed 's/.\{64\}/&\n/g'
  printf '\n-----END PRIVATE KEY-----\n'
  rm -f /run/kafka/key.der
}

internal=$(cat /secrets/internal-password) admin=$(cat /secrets/admin-password)
plain="org.apache.kafka.common.security.plain.PlainLoginModule required username=\"kafka\" password=\"$internal\""
scheme=SASL_PLAINTEXT
[ -z "$TLS_DIR" ] || scheme=SASL_SSL
{
  cat <<EOF
process.roles=broker,controller
node.id=$node_id
controller.quorum.voters=$QUORUM_VOTERS
listeners=CLIENT://:9092,CONTROLLER://:9093,INTERNAL://:9094
advertised.listeners=CLIENT://$host:9092,INTERNAL://$host:9094
listener.security.protocol.map=CLIENT:$scheme,CONTROLLER:$scheme,INTERNAL:$scheme
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=$plain user_kafka="$internal";
listener.name.internal.sasl.enabled.mechanisms=PLAIN
listener.name.internal.plain.sasl.jaas.config=$plain user_kafka="$internal" user_admin="$admin";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:kafka;User:admin
allow.everyone.if.no.acl.found=false
auto.create.topics.enable=false
log.dirs=/data/kafka
num.partitions=1
default.replication.factor=$REPLICATION_FACTOR
min.insync.replicas=$MIN_ISR
offsets.topic.replication.factor=$REPLICATION_FACTOR
offsets.topic.num.partitions=12
transaction.state.log.replication.factor=$REPLICATION_FACTOR
transaction.state.log.min.isr=$MIN_ISR
transaction.state.log.num.partitions=12
unclean.leader.election.enable=false
broker.session.timeout.ms=$SESSION_TIMEOUT_MS
group.initial.rebalance.delay.ms=0
EOF
  if [ -n "$TLS_DIR" ]; then
    { pkcs8 "$TLS_DIR/tls.key"; cat "$TLS_DIR/tls.crt"; } > /run/kafka/keystore.pem
    cat <<EOF
ssl.keystore.type=PEM
ssl.keystore.location=/run/kafka/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$TLS_DIR/ca.crt
ssl.client.auth=none
EOF
  fi
  cat /etc/soma-kafka/extra.properties
} > "$conf"
# What the operator's tools need to speak to this node from inside the pod: kafka-topics.sh --command-config …
{
  printf 'security.protocol=%s\nsasl.mechanism=PLAIN\n' "$scheme"
  printf 'sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="%s";\n' "$admin"
  [ -z "$TLS_DIR" ] || printf 'ssl.truststore.type=PEM\nssl.truststore.location=%s/ca.crt\n' "$TLS_DIR"
} > /run/kafka/admin.properties
KAFKA_HEAP_OPTS=-Xmx96m /opt/kafka/bin/kafka-storage.sh format --ignore-formatted -t "$CLUSTER_ID" -c "$conf"
exec /opt/kafka/bin/kafka-server-start.sh "$conf"
