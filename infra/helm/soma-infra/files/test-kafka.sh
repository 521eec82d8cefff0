# Every broker answers on the operator's listener.
umask 077
{
  printf 'security.protocol=%s\nsasl.mechanism=PLAIN\n' "$([ "$TLS" = false ] && echo SASL_PLAINTEXT || echo SASL_SSL)"
  printf 'sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="%s";\n' "$(cat /secrets/admin-password)"
  [ "$TLS" = false ] || printf 'ssl.truststore.type=PEM\nssl.truststore.location=/tls/ca.crt\n'
} > /tmp/admin.properties
seen=$(/opt/kafka/bin/kafka-broker-api-versions.sh --bootstrap-server "$HOST:9094" --command-config /tmp/admin.properties | grep -c 'id: ')
[ "$seen" = "$NODES" ] || { echo "$seen of $NODES brokers answered" >&2; exit 1; }
echo "kafka: $seen brokers"
