{{/* Parts of the NetworkPolicy. */}}

{{/* The control plane's ports, of both its URLs, as a list of numbers. */}}
{{- define "oz-agent-worker.controlPlanePorts" -}}
{{- $ports := list -}}
{{- range $url := list .Values.warp.webSocketURL .Values.warp.serverRootURL -}}
{{- $parts := urlParse (default "https://the.public.service" $url) -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $parts.host) -}}
{{- $usual := has $parts.scheme (list "https" "wss") | ternary 443 80 -}}
{{- $ports = append $ports (empty $port | ternary $usual (int $port)) -}}
{{- end -}}
{{- toYaml (uniq $ports) -}}
{{- end -}}

{{/* A rule's ports over TCP. */}}
{{- define "oz-agent-worker.tcpPorts" -}}
{{- range . }}
- protocol: TCP
  port: {{ . }}
{{- end }}
{{- end -}}
