{{/* Parts of the Pods: the control plane's own, and the test's. */}}

{{- define "oz-control-plane.image" -}}
{{- printf "%s:%s" .Values.image.repository .Values.image.tag | quote -}}
{{- end -}}

{{/* Pull secrets, each given as a name or as {name}. */}}
{{- define "oz-control-plane.pullSecrets" -}}
{{- range .Values.image.pullSecrets }}
- name: {{ kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name") | quote }}
{{- end }}
{{- end -}}

{{/* Where the API key is. */}}
{{- define "oz-control-plane.apiKey" -}}
secretKeyRef:
  name: {{ .Values.apiKeySecret.name | quote }}
  key: {{ .Values.apiKeySecret.key | quote }}
{{- end -}}

{{- define "oz-control-plane.ownEnv" -}}
- name: OZ_CONTROL_PLANE_API_KEY
  valueFrom:
    {{- include "oz-control-plane.apiKey" . | nindent 4 }}
- name: OZ_CONTROL_PLANE_DATABASE
  {{- if .Values.database.urlSecret.name }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.urlSecret.name | quote }}
      key: {{ .Values.database.urlSecret.key | quote }}
  {{- else }}
  value: sqlite:////var/lib/oz/control-plane.db
  {{- end }}
{{- end -}}

{{/* All variables, each name once, since Kubernetes merges them by name: the operator's win. */}}
{{- define "oz-control-plane.env" -}}
{{- $extra := .Values.controlPlane.extraEnv -}}
{{- $names := list -}}
{{- range $extra -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $env := list -}}
{{- range include "oz-control-plane.ownEnv" . | fromYamlArray -}}
{{- if not (has .name $names) -}}
{{- $env = append $env . -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $env $extra) -}}
{{- end -}}

{{/* A probe of the control plane, from its `times` and its `path`. */}}
{{- define "oz-control-plane.probe" -}}
{{- mergeOverwrite (deepCopy .times) (dict "httpGet" (dict "path" .path "port" "http")) | toYaml -}}
{{- end -}}

{{/* The volume of the SQLite database. */}}
{{- define "oz-control-plane.dataVolume" -}}
- name: data
  {{- if .Values.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ include "oz-control-plane.claimName" . | quote }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end -}}
