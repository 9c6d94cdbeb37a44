{{/*
Puts defaults where values are missing. Helm drops a key whose value is null, as a section with
its entries commented out is, and with `--reuse-values` knows nothing that a newer chart has.
A value for which null means something keeps it, unless its whole section is missing.

The values are one map for all templates, in no order that is promised: each begins with this.
*/}}
{{- define "oz-agent-worker.defaults" -}}
{{- range $entry := .Files.Get "files/defaults.yaml" | fromYamlArray -}}
{{- $section := $.Values -}}
{{- $missing := false -}}
{{- range splitList "." $entry.section | compact -}}
{{- if not (hasKey $section .) -}}
{{- $_ := set $section . dict -}}
{{- $missing = true -}}
{{- end -}}
{{- $section = get $section . -}}
{{- end -}}
{{- range $name, $default := $entry.values -}}
{{- if and (not (hasKey $section $name)) (or $missing (not (has $name $entry.nullable))) -}}
{{- $_ := set $section $name $default -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
