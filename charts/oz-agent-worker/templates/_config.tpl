{{/*
The worker's config file. Each value of kubernetesBackend is the key of the same name in
backend.kubernetes, written with underscores. Empty values are left out, so that the worker's defaults apply.
So is the number 0 of `activeDeadlineSeconds` and `ttlSecondsAfterFinished`, as in the public chart.
*/}}
{{- define "oz-agent-worker.config" -}}
{{- $kubernetes := dict "namespace" (include "oz-agent-worker.taskNamespace" .) -}}
{{- $emptyIfZero := list "activeDeadlineSeconds" "ttlSecondsAfterFinished" -}}
{{- range $key, $value := omit .Values.kubernetesBackend "namespace" -}}
{{- if or $value (kindIs "bool" $value) (and (kindIs "int64" $value) (not (has $key $emptyIfZero))) -}}
{{- $_ := set $kubernetes (snakecase $key) $value -}}
{{- end -}}
{{- end -}}
{{- $config := dict
  "worker_id" .Values.worker.workerId
  "cleanup" .Values.worker.cleanup
  "max_concurrent_tasks" (max 0 .Values.worker.maxConcurrentTasks)
  "backend" (dict "kubernetes" $kubernetes)
-}}
{{- with .Values.worker.idleOnComplete -}}
{{- $_ := set $config "idle_on_complete" . -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
