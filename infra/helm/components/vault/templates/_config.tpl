{{- define "vault.config" -}}
{{- $c := .c -}}{{- $v := .root.Values -}}
ui = false
disable_mlock = true
{{- if $v.disableStandbyReads }}
disable_standby_reads = true
{{- end }}
listener "tcp" {
  address = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file = "/tls/tls.crt"
  tls_key_file = "/tls/tls.key"
  tls_min_version = "tls12"
  telemetry { unauthenticated_metrics_access = true }
}
telemetry {
  prometheus_retention_time = "1h"
  disable_hostname = true
}
storage "raft" {
  path = "/vault/data"
  {{- range $i := until (int .n) }}
  retry_join {
    leader_api_addr = "https://{{ include "soma.fullname" $c }}-{{ $i }}{{ include "soma.podSuffix" $c }}:8200"
    leader_ca_cert_file = "/tls/ca.crt"
  }
  {{- end }}
}
{{- with $v.seal.type }}
seal "{{ . }}" {
  {{- range $k, $val := $v.seal.settings }}
  {{ $k }} = {{ toJson $val }}
  {{- end }}
}
{{- end }}
{{- end -}}
