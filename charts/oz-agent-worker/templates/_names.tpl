{{/* Names and labels. */}}

{{- define "oz-agent-worker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "oz-agent-worker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "oz-agent-worker.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "oz-agent-worker.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "oz-agent-worker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "oz-agent-worker.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "oz-agent-worker.configMapName" -}}
{{- default (printf "%s-config" (include "oz-agent-worker.fullname" .)) .Values.worker.existingConfigMap -}}
{{- end -}}

{{/* The public chart, too, has a name of its own for a Secret that it creates without one. */}}
{{- define "oz-agent-worker.apiKeySecretName" -}}
{{- $secret := .Values.warp.apiKeySecret -}}
{{- $default := $secret.create | ternary (printf "%s-api-key" (include "oz-agent-worker.fullname" .)) "oz-agent-worker" -}}
{{- default $default $secret.name -}}
{{- end -}}

{{/* A Service's name has 63 characters at most. */}}
{{- define "oz-agent-worker.metricsName" -}}
{{- printf "%s-metrics" (include "oz-agent-worker.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{- define "oz-agent-worker.dashboardName" -}}
{{- printf "%s-dashboard" (include "oz-agent-worker.fullname" .) -}}
{{- end -}}

{{- define "oz-agent-worker.taskNamespace" -}}
{{- default .Release.Namespace .Values.kubernetesBackend.namespace -}}
{{- end -}}

{{/* Whether the chart creates the worker's permissions: those in another cluster (`kubeconfig`) it cannot. */}}
{{- define "oz-agent-worker.grants" -}}
{{- and .Values.rbac.create (not .Values.kubernetesBackend.kubeconfig) -}}
{{- end -}}

{{/* The rules of the worker's Role, which NOTES.txt lists where the chart does not create it. */}}
{{- define "oz-agent-worker.taskRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, watch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- if .Values.kubernetesBackend.taskEnvSecret }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
{{- end -}}

{{/*
Role and RoleBinding in the namespace of the tasks. If that is not the release's namespace, the name
contains the release's namespace: several releases of one name may use one namespace for tasks.
*/}}
{{- define "oz-agent-worker.roleName" -}}
{{- $fullname := include "oz-agent-worker.fullname" . -}}
{{- if eq (include "oz-agent-worker.taskNamespace" .) .Release.Namespace -}}
{{- $fullname -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace $fullname -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change during the life of a release. */}}
{{- define "oz-agent-worker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oz-agent-worker.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* For objects only: with the chart's version in a Pod's labels every upgrade would restart the Pod. */}}
{{- define "oz-agent-worker.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "oz-agent-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{/* The test's Pod has a name of its own: no selector of the worker may match it. */}}
{{- define "oz-agent-worker.testName" -}}
{{- printf "%s-test" (include "oz-agent-worker.name" . | trunc 58 | trimSuffix "-") -}}
{{- end -}}

{{- define "oz-agent-worker.testLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/name: {{ include "oz-agent-worker.testName" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{/* The Pod stays until the next test, for its log. */}}
{{- define "oz-agent-worker.testAnnotations" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation
{{- end -}}
