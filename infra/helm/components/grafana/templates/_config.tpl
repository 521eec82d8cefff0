{{- define "grafana.config" -}}
grafana.ini: |
  [paths]
  data = /var/lib/grafana
  logs = /tmp/logs
  plugins = /var/lib/grafana/plugins
  provisioning = /etc/grafana-provisioning
  [server]
  http_port = 3000
  [log]
  mode = console
  [security]
  admin_user = admin
  admin_password = $__file{/secrets/admin-password}
  secret_key = $__file{/secrets/secret-key}
  [users]
  allow_sign_up = false
  [auth.anonymous]
  enabled = false
  [analytics]
  reporting_enabled = false
  check_for_updates = false
  check_for_plugin_updates = false
datasources.yaml: |
  apiVersion: 1
  datasources:
    - {name: Prometheus, uid: prometheus, type: prometheus, access: proxy, url: {{ .prometheus | quote }}, isDefault: true}
dashboards.yaml: |
  apiVersion: 1
  providers:
    - {name: soma, folder: Soma, type: file, options: {path: /etc/grafana-dashboards}}
{{- end -}}
