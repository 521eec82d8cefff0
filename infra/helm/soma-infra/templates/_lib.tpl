{{/* Named templates shared by the umbrella and every component (Helm keeps one name space for all of them). Each takes a
     dict with "root" (the caller's $) and "name" (the component). */}}

{{- define "soma.fullname" -}}{{ .root.Release.Name }}-{{ .name }}{{- end -}}

{{/* Headless DNS suffix of a StatefulSet's pods. */}}
{{- define "soma.podSuffix" -}}.{{ include "soma.fullname" . }}-hl.{{ .root.Release.Namespace }}.svc.{{ .root.Values.global.clusterDomain }}{{- end -}}

{{- define "soma.host" -}}{{ include "soma.fullname" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.global.clusterDomain }}{{- end -}}

{{- define "soma.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "soma.labels" -}}
{{ include "soma.selector" . }}
app.kubernetes.io/part-of: soma-infra
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* An image as values give it: repository, tag or digest. On a mirror it has the same path without its registry, and Docker's
     own images are below library/, as `--mirror` of sfmctl has it. */}}
{{- define "soma.image" -}}
{{- $g := .root.Values.global -}}{{- $i := .image -}}
{{- $repository := $i.repository -}}
{{- if $g.imageRegistry -}}
{{- $parts := splitList "/" $repository -}}
{{- if eq (len $parts) 1 }}{{ $parts = prepend $parts "library" }}
{{- else if regexMatch "[.:]|^localhost$" (first $parts) }}{{ $parts = rest $parts }}{{ end -}}
{{- $repository = join "/" (prepend $parts (trimSuffix "/" $g.imageRegistry)) -}}
{{- end -}}
{{ $repository }}{{ if $i.digest }}@{{ $i.digest }}{{ else }}:{{ $i.tag }}{{ end -}}
{{- end -}}

{{/* Pod fields that every pod has: Pod Security "restricted", no token, no service environment variables. */}}
{{- define "soma.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid }}
  runAsGroup: {{ .gid }}
  fsGroup: {{ .gid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "soma.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Replicas of one component stay apart: on different nodes where there are some, or always ("hard"). */}}
{{- define "soma.spread" -}}
{{- if gt (int .replicas) 1 }}
affinity:
  podAntiAffinity:
    {{- if eq .root.Values.global.antiAffinity "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "soma.selector" . | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "soma.selector" . | nindent 14 }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* How a Deployment is renewed: one more first. Where replicas have to stay apart there may be no node for one more, and it
     would wait for ever: then one fewer first. */}}
{{- define "soma.rollout" -}}
{{- $apart := and (gt (int .replicas) 1) (eq .root.Values.global.antiAffinity "hard") -}}
{rollingUpdate: {maxUnavailable: {{ ternary 1 0 $apart }}, maxSurge: {{ ternary 0 1 $apart }}}}
{{- end -}}

{{/* Bytes of an amount such as 1.5Gi, in Kubernetes' units; Redis (2gb) and Java (256m) have "units" of their own. */}}
{{- define "soma.bytes" -}}
{{- $kubernetes := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $amount := ternary .amount (printf "%.0f" (float64 .amount)) (kindIs "string" .amount) -}}
{{- $number := regexFind "^[0-9.]+" $amount -}}
{{- mulf (float64 $number) (float64 (get (default $kubernetes .units) (trimPrefix $number $amount))) -}}
{{- end -}}

{{/* Refuses memory that a server takes at will ("amount" in "units", set by "key") above three quarters of its limit: it
     needs the rest beside it, and would be killed. */}}
{{- define "soma.fits" -}}
{{- $limit := dig "limits" "memory" "" .resources -}}
{{- if $limit -}}
{{- $room := mulf 0.75 (float64 (include "soma.bytes" (dict "amount" $limit))) -}}
{{- if gt (float64 (include "soma.bytes" .)) $room }}{{ fail (printf "%s gives the server %s, but the limit of its pod is %v and a quarter of that is needed beside it: it would be killed; lower %s or raise %s.resources.limits.memory" .key .amount $limit .key .name) }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* From staging on, what others depend on is not kept in an emptyDir. */}}
{{- define "soma.keeps" -}}
{{- $mode := .root.Values.global.mode -}}
{{- if and .persistence.ephemeral (has $mode (list "staging" "prod-lite" "prod")) }}{{ fail (printf "%s.persistence.ephemeral would lose its data with the pod: not in mode %s; set it to false" .name $mode) }}{{ end -}}
{{- end -}}

{{/* Refuses another number of nodes than the release runs, where each node's volume holds who the members are: those that are
     new would make a cluster of their own beside it. "mend" is what to do instead. */}}
{{- define "soma.sameNodes" -}}
{{- $old := lookup "apps/v1" "StatefulSet" .root.Release.Namespace (include "soma.fullname" .) -}}
{{- $runs := dig "spec" "replicas" 0 (default dict $old) | int -}}
{{- if and $runs (ne $runs (int .replicas)) (not .persistence.ephemeral) }}{{ fail (printf "%s.replicas is %d, but this release runs %d, whose volumes know no other members: keep %s.replicas=%d, or %s" .name (int .replicas) $runs .name $runs .mend) }}{{ end -}}
{{- end -}}

{{/* The data volume: a claim, or an emptyDir where the mode is ephemeral. Call inside a StatefulSet's spec. */}}
{{- define "soma.claim" -}}
{{- $p := .persistence -}}
{{- if not $p.ephemeral }}
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: data
      labels: {{- include "soma.selector" . | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with (default .root.Values.global.storageClass $p.storageClass) }}
      storageClassName: {{ . | quote }}
      {{- end }}
      resources:
        requests: {storage: {{ $p.size | quote }}}
{{- end }}
{{- end -}}

{{- define "soma.dataVolume" -}}
{{- if .persistence.ephemeral -}}
- name: data
  emptyDir: {sizeLimit: {{ .persistence.size | quote }}}
{{- end -}}
{{- end -}}

{{- define "soma.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "soma.fullname" . }}
  labels: {{- include "soma.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "soma.selector" . | nindent 6 }}
{{- end -}}

{{/* Who may reach a component. "clients": ports for admitted application namespaces and the operator's own pods in this
     namespace (label soma.sh/infra-client=true). "admin": ports for the latter only. "from": list of {name, ports} for
     other components; "peers": ports among the component's own pods; "metrics": ports for Prometheus. */}}
{{- define "soma.networkPolicy" -}}
{{- if .root.Values.global.networkPolicy.enabled -}}
{{- $g := .root.Values.global.networkPolicy -}}
{{- $root := .root -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "soma.fullname" . }}
  labels: {{- include "soma.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "soma.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    {{- with .clients }}
    - from:
        - namespaceSelector:
            matchLabels: {soma.sh/allow-shared-infra: "true"}
        {{- range $g.extraNamespaces }}
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: {{ . | quote }}}
        {{- end }}
      ports:
        {{- range . }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- with (concat (default list .clients) (default list .admin)) }}
    - from:
        - podSelector:
            matchLabels: {soma.sh/infra-client: "true"}
      ports:
        {{- range . }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- range .from }}
    - from:
        - podSelector:
            matchLabels: {{- include "soma.selector" (dict "root" $root "name" .name) | nindent 14 }}
      ports:
        {{- range .ports }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- with .peers }}
    - from:
        - podSelector:
            matchLabels: {{- include "soma.selector" $ | nindent 14 }}
      ports:
        {{- range . }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- with .metrics }}
    - from:
        - podSelector:
            matchLabels: {{- include "soma.selector" (dict "root" $root "name" "prometheus") | nindent 14 }}
      ports:
        {{- range . }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* A Secret whose values are made once: what the cluster holds is kept, and it outlives the release, because the volumes
     do too. "keys" are the names of its values. */}}
{{- define "soma.generatedSecret" -}}
{{- $name := include "soma.fullname" . -}}
{{- $old := (lookup "v1" "Secret" .root.Release.Namespace $name) -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}
  labels: {{- include "soma.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
type: Opaque
data:
  {{- range .keys }}
  {{- $kept := dig "data" . "" (default dict $old) }}
  {{ . }}: {{ default (randAlphaNum 32 | b64enc) $kept | quote }}
  {{- end }}
{{- end -}}

{{/* Headless Service that names each pod before it is ready: nodes of a cluster have to find each other to become it. */}}
{{- define "soma.headless" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "soma.fullname" . }}-hl
  labels: {{- include "soma.labels" . | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{- include "soma.selector" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .port }}}
    {{- end }}
{{- end -}}

{{- define "soma.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "soma.fullname" . }}
  labels: {{- include "soma.labels" . | nindent 4 }}
spec:
  type: ClusterIP
  selector: {{- include "soma.selector" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .port }}}
    {{- end }}
{{- end -}}

{{/* TLS is on for a component when the mode says so; its Secret is <release>-<name>-tls. */}}
{{- define "soma.tlsVolume" -}}
- name: tls
  secret:
    secretName: {{ include "soma.fullname" . }}-tls
    defaultMode: 0440
{{- end -}}

{{/* The names a component's certificate is for, as a JSON list; the first one is its subject. */}}
{{- define "soma.certNames" -}}
{{- $ns := .root.Release.Namespace -}}{{- $domain := .root.Values.global.clusterDomain -}}{{- $r := .root.Release.Name -}}
{{- $services := list (printf "%s-%s" $r .name) -}}
{{- if eq .name "pgpool" }}{{ $services = list (printf "%s-postgres-pgpool" $r) }}{{ end -}}
{{- if eq .name "redis" }}{{ $services = list (printf "%s-redis-master" $r) }}{{ end -}}
{{- $headless := list (printf "%s-%s-hl" $r .name) -}}
{{- if eq .name "redis" }}{{ $headless = append $headless (printf "%s-redis-sentinel-hl" $r) }}{{ end -}}
{{- $names := list -}}
{{- range $services -}}
{{- $names = concat $names (list . (printf "%s.%s" . $ns) (printf "%s.%s.svc" . $ns) (printf "%s.%s.svc.%s" . $ns $domain)) -}}
{{- end -}}
{{- range $headless -}}{{- $names = append $names (printf "*.%s.%s.svc.%s" . $ns $domain) -}}{{- end -}}
{{- toJson (append $names "localhost") -}}
{{- end -}}

{{/* Who issues the certificates: chart, cert-manager or existing. "auto" stays with an authority that the chart made. */}}
{{- define "soma.tlsSource" -}}
{{- $source := .Values.global.tls.source -}}
{{- if eq $source "auto" -}}
{{- $old := lookup "v1" "Secret" .Release.Namespace (printf "%s-ca" .Release.Name) -}}
{{- $source = ternary "cert-manager" "chart" (and (not $old) (.Capabilities.APIVersions.Has "cert-manager.io/v1")) -}}
{{- end -}}
{{- $source -}}
{{- end -}}
