{{/* Names and labels. */}}

{{- define "oz-control-plane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name in the labels of the Pod of `helm test`, which is not to be taken for the control plane's. */}}
{{- define "oz-control-plane.testName" -}}
{{- printf "%s-test" (include "oz-control-plane.name" . | trunc 58 | trimSuffix "-") -}}
{{- end -}}

{{- define "oz-control-plane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "oz-control-plane.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "oz-control-plane.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "oz-control-plane.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "oz-control-plane.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "oz-control-plane.claimName" -}}
{{- default (printf "%s-data" (include "oz-control-plane.fullname" .)) .Values.persistence.existingClaim -}}
{{- end -}}

{{/* The Service as every namespace of the cluster reaches it. */}}
{{- define "oz-control-plane.url" -}}
{{- printf "http://%s.%s.svc:%d" (include "oz-control-plane.fullname" .) .Release.Namespace .Values.controlPlane.port -}}
{{- end -}}

{{/* What never changes while a release lives. */}}
{{- define "oz-control-plane.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oz-control-plane.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Of objects alone: with the chart's version in a Pod's labels, each upgrade would restart it. */}}
{{- define "oz-control-plane.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "oz-control-plane.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}
