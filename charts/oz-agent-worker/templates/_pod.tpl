{{/* Parts of the Pods: the worker's own, and the test's. */}}

{{- define "oz-agent-worker.image" -}}
{{- printf "%s:%s" .Values.image.repository .Values.image.tag | quote -}}
{{- end -}}

{{/* Pull secrets, each given as a name or as {name}. */}}
{{- define "oz-agent-worker.pullSecrets" -}}
{{- range .Values.image.pullSecrets }}
- name: {{ kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name") | quote }}
{{- end }}
{{- end -}}

{{/* Whether a Prometheus can scrape the worker. */}}
{{- define "oz-agent-worker.scraped" -}}
{{- and .Values.metrics.enabled (eq .Values.metrics.exporter "prometheus") -}}
{{- end -}}

{{/* The flags of every command that reads the worker's config. */}}
{{- define "oz-agent-worker.flags" -}}
- --config-file=/etc/oz-agent-worker/config.yaml
{{- if .Values.worker.existingConfigMap }}
- {{ printf "--worker-id=%s" .Values.worker.workerId | quote }}
{{- end }}
{{- with .Values.warp.webSocketURL }}
- {{ printf "--web-socket-url=%s" . | quote }}
{{- end }}
{{- with .Values.warp.serverRootURL }}
- {{ printf "--server-root-url=%s" . | quote }}
{{- end }}
{{- end -}}

{{- define "oz-agent-worker.ownEnv" -}}
- name: WARP_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "oz-agent-worker.apiKeySecretName" . | quote }}
      key: {{ .Values.warp.apiKeySecret.key | quote }}
- name: OZ_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OZ_POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: OZ_POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: OTEL_METRICS_EXPORTER
  value: {{ .Values.metrics.enabled | ternary .Values.metrics.exporter "none" | quote }}
{{- if eq (include "oz-agent-worker.scraped" .) "true" }}
- name: OTEL_EXPORTER_PROMETHEUS_HOST
  value: 0.0.0.0
- name: OTEL_EXPORTER_PROMETHEUS_PORT
  value: {{ .Values.metrics.port | quote }}
{{- end }}
{{- end -}}

{{/*
All variables, each name once, because Kubernetes merges them by name. worker.extraEnv overrides
metrics.extraEnv, which overrides the chart's own. The order is kept, because $(NAME) depends on it.
*/}}
{{- define "oz-agent-worker.env" -}}
{{- $metrics := .Values.metrics.enabled | ternary .Values.metrics.extraEnv list -}}
{{- $left := concat (include "oz-agent-worker.ownEnv" . | fromYamlArray) $metrics .Values.worker.extraEnv -}}
{{- $env := list -}}
{{- range $entry := $left -}}
{{- $left = rest $left -}}
{{- $later := list -}}
{{- range $left -}}
{{- $later = append $later .name -}}
{{- end -}}
{{- if not (has $entry.name $later) -}}
{{- $env = append $env $entry -}}
{{- end -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* Whether worker.extraVolumeMounts has a mount at `path`. */}}
{{- define "oz-agent-worker.isMounted" -}}
{{- $found := false -}}
{{- range .Values.worker.extraVolumeMounts -}}
{{- if eq (.mountPath | toString | trimSuffix "/") (trimSuffix "/" $.path) -}}
{{- $found = true -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/*
Folders that the worker needs to write to with a read-only root file system: name to path. A client
certificate of a kubeconfig is a file while it is loaded.
*/}}
{{- define "oz-agent-worker.writable" -}}
{{- $paths := dict -}}
{{- with .Values.kubernetesBackend.evidenceDir -}}
{{- $_ := set $paths "evidence" . -}}
{{- end -}}
{{- if .Values.kubernetesBackend.kubeconfig -}}
{{- $_ := set $paths "tmp" "/tmp" -}}
{{- end -}}
{{- $wanted := dict -}}
{{- range $name, $path := $paths -}}
{{- if eq (include "oz-agent-worker.isMounted" (dict "Values" $.Values "path" $path)) "false" -}}
{{- $_ := set $wanted $name $path -}}
{{- end -}}
{{- end -}}
{{- toYaml $wanted -}}
{{- end -}}

{{- define "oz-agent-worker.volumes" -}}
- name: config
  configMap:
    name: {{ include "oz-agent-worker.configMapName" . | quote }}
{{- range $name, $path := include "oz-agent-worker.writable" . | fromYaml }}
- name: {{ $name | quote }}
  emptyDir: {}
{{- end }}
{{- with .Values.worker.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "oz-agent-worker.volumeMounts" -}}
- name: config
  mountPath: /etc/oz-agent-worker
  readOnly: true
{{- range $name, $path := include "oz-agent-worker.writable" . | fromYaml }}
- name: {{ $name | quote }}
  mountPath: {{ $path | quote }}
{{- end }}
{{- with .Values.worker.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Helm merges an operator's probe into the default one, but a probe may have one handler only. */}}
{{- define "oz-agent-worker.livenessProbe" -}}
{{- $probe := .Values.worker.livenessProbe -}}
{{- if or $probe.httpGet $probe.tcpSocket $probe.grpc -}}
{{- $probe = omit $probe "exec" -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}
