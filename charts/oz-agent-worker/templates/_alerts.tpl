{{/*
The groups of files/alerts.yaml, limited to the release's worker and changed by the values. A group
without an alert is left out.
*/}}
{{- define "oz-agent-worker.alertGroups" -}}
{{- $settings := .Values.metrics.prometheusRule -}}
{{- $own := printf "oz_worker_info{worker_id=%q}" .Values.worker.workerId -}}
{{- $known := dict -}}
{{- $groups := list -}}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- $_ := set $known .alert true -}}
{{- $wanted := get $settings.alerts .alert | default dict -}}
{{- if ne (get $wanted "enabled" | toString) "false" -}}
{{- $labels := mergeOverwrite (deepCopy .labels) $settings.alertLabels (pick $wanted "severity") -}}
{{- $rule := mergeOverwrite (deepCopy .) (pick $wanted "for") (dict "labels" $labels) -}}
{{- $_ := set $rule "expr" (replace "oz_worker_info" $own .expr) -}}
{{- if hasKey $wanted "threshold" -}}
{{- if not (regexMatch ">=? [0-9.]+$" .expr) -}}
{{- fail (printf "metrics.prometheusRule.alerts.%s.threshold: this alert has none" .alert) -}}
{{- end -}}
{{- $_ := set $rule "expr" (regexReplaceAll "[0-9.]+$" $rule.expr (toString $wanted.threshold)) -}}
{{- end -}}
{{- if $settings.runbookURL -}}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s#%s" $settings.runbookURL (lower .alert)) -}}
{{- end -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (dict "name" .name "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- range keys $settings.alerts | sortAlpha -}}
{{- if not (hasKey $known .) -}}
{{- fail (printf "metrics.prometheusRule.alerts.%s: there is no such alert; docs/alerts.md lists them" .) -}}
{{- end -}}
{{- end -}}
{{- $groups | toYaml -}}
{{- end -}}
