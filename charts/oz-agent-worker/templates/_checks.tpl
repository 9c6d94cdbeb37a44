{{/* Checks that a schema cannot express, or not clearly. The template that uses the values first includes it. */}}
{{- define "oz-agent-worker.checks" -}}
{{- $worker := .Values.worker -}}
{{- if not $worker.workerId -}}
{{- fail "worker.workerId is required: --set worker.workerId=NAME, one release a worker ID" -}}
{{- end -}}
{{- if hasPrefix "warp" $worker.workerId -}}
{{- fail (printf "worker.workerId is %q: IDs that begin with `warp` are reserved" $worker.workerId) -}}
{{- end -}}
{{- if not .Values.enabled -}}
{{- fail "enabled is false and has no effect here: the parent chart has to name it as the condition of its dependency" -}}
{{- end -}}
{{- if not .Values.image.tag -}}
{{- fail "image.tag is required: --set image.tag=VERSION, to choose the version" -}}
{{- end -}}
{{- if and .Values.warp.apiKeySecret.create (not .Values.warp.apiKeySecret.value) -}}
{{- fail "warp.apiKeySecret.value is required with warp.apiKeySecret.create: the API key" -}}
{{- end -}}
{{- $metrics := .Values.metrics -}}
{{- if and $metrics.enabled $metrics.prometheusRule.create (has $metrics.exporter (list "none" "console")) -}}
{{- fail (printf "metrics.prometheusRule.create needs metrics.exporter prometheus or otlp: with %s no Prometheus has what its alerts are about" $metrics.exporter) -}}
{{- end -}}
{{- if and $worker.health.enabled (eq (include "oz-agent-worker.scraped" .) "true") -}}
{{- if eq $worker.health.port .Values.metrics.port -}}
{{- fail (printf "worker.health.port and metrics.port are both %d: they must differ" .Values.metrics.port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
