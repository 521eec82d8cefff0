{{- define "prometheus.config" -}}
{{- $ns := .Release.Namespace -}}
global:
  scrape_interval: {{ .Values.scrapeInterval }}
  evaluation_interval: {{ .Values.scrapeInterval }}
rule_files: [/etc/prometheus/rules.yml, /etc/prometheus-extra/*.yml]
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["localhost:9090"]}]
  - job_name: etcd
    dns_sd_configs: [{names: ["{{ .Release.Name }}-etcd-hl.{{ $ns }}.svc.{{ .Values.global.clusterDomain }}"], type: A, port: 2381, refresh_interval: 15s}]
  - job_name: opa
    dns_sd_configs: [{names: ["{{ .Release.Name }}-opa-hl.{{ $ns }}.svc.{{ .Values.global.clusterDomain }}"], type: A, port: 8282, refresh_interval: 15s}]
  {{- if .Values.global.tls.enabled }}
  - job_name: vault
    scheme: https
    metrics_path: /v1/sys/metrics
    params: {format: [prometheus]}
    tls_config: {ca_file: /ca/ca.crt, server_name: {{ .Release.Name }}-vault.{{ $ns }}.svc.{{ .Values.global.clusterDomain }}}
    dns_sd_configs: [{names: ["{{ .Release.Name }}-vault-hl.{{ $ns }}.svc.{{ .Values.global.clusterDomain }}"], type: A, port: 8200, refresh_interval: 15s}]
  {{- end }}
  {{- if .Values.discoverApplications }}
  - job_name: applications
    kubernetes_sd_configs:
      - role: pod
        attach_metadata: {node: false}
        {{- with .Values.applicationNamespaces }}
        namespaces: {names: {{ toJson . }}}
        {{- end }}
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true", action: keep}
      - {source_labels: [__meta_kubernetes_pod_phase], regex: Running, action: keep}
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], regex: (.+), target_label: __metrics_path__}
      - {source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port], regex: '([^:]+)(?::\d+)?;(\d+)', replacement: "$1:$2", target_label: __address__}
      - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
      - {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name], target_label: app}
  {{- end }}
  {{- with .Values.extraScrapeConfigs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- define "prometheus.rules" -}}
groups:
  - name: soma-infra
    rules:
      - alert: SomaTargetDown
        expr: up == 0
        for: 5m
        labels: {severity: warning}
        annotations: {summary: "{{ "{{ $labels.job }} at {{ $labels.instance }}" }} has not answered for 5 minutes"}
      - alert: SomaEtcdWithoutLeader
        expr: etcd_server_has_leader == 0
        for: 1m
        labels: {severity: critical}
        annotations: {summary: "etcd member {{ "{{ $labels.instance }}" }} sees no leader"}
  {{- with .Values.extraRuleGroups }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
