{{/* What a schema cannot say, or cannot say clearly. Included where the values are used first. */}}
{{- define "oz-control-plane.checks" -}}
{{- if not .Values.image.tag -}}
{{- fail "image.tag is required: --set image.tag=VERSION, so that what runs is chosen" -}}
{{- end -}}
{{- if and .Values.apiKeySecret.create (lt (len .Values.apiKeySecret.value) 32) -}}
{{- fail "apiKeySecret.value is required with apiKeySecret.create: an API key of 32 characters or more, as `openssl rand -hex 32` makes one" -}}
{{- end -}}
{{- end -}}
