{{/* Checks that a schema cannot express, or not clearly. The template that uses the values first includes it. */}}
{{- define "oz-control-plane.checks" -}}
{{- if not .Values.enabled -}}
{{- fail "enabled is false and has no effect here: the parent chart has to name it as the condition of its dependency" -}}
{{- end -}}
{{- if not .Values.image.tag -}}
{{- fail "image.tag is required: --set image.tag=VERSION, to choose the version" -}}
{{- end -}}
{{- if and .Values.apiKeySecret.create (lt (len .Values.apiKeySecret.value) 32) -}}
{{- fail "apiKeySecret.value is required with apiKeySecret.create: an API key of 32 characters or more, such as `openssl rand -hex 32` prints" -}}
{{- end -}}
{{- end -}}
