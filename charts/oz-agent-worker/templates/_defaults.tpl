{{/*
Fills in the defaults of missing values. Helm drops a key whose value is null, as a section with
its entries commented out is, and with `--reuse-values` knows nothing that a newer chart has.
A value for which null has a meaning stays null, unless its whole section is missing.

All templates share one map of values and are rendered in no defined order, so each begins with this.
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
