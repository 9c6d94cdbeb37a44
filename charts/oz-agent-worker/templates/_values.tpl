{{/*
Brings the values into the form of files/schema.yaml, so that the other templates need not ask what a
values file looks like: what is missing gets its default, a number or a boolean becomes a text where a
text is meant, and a text a number or a boolean. A name that the chart does not know is an error.

Helm drops a key whose value is null, as a section with its entries commented out is, if the chart has
that value, and keeps the null otherwise. With `--reuse-values` it knows nothing that a newer chart has.

All templates share one map of values and are rendered in no defined order, so each begins with this.
*/}}
{{- define "oz-agent-worker.values" -}}
{{- $done := "the values are in form" -}}
{{- if not (hasKey .Values $done) -}}
{{- $schema := .Files.Get "files/schema.yaml" | fromYaml -}}
{{- $found := dict "unknown" list -}}
{{- /* The name of the chart, if it is another's subchart. */ -}}
{{- $at := .Template.BasePath | trimSuffix "/templates" | splitList "/charts/" | rest | join "." -}}
{{- include "oz-agent-worker.value" (dict "in" (dict "values" .Values) "key" "values" "schema" $schema "path" $at "found" $found) -}}
{{- if $found.unknown -}}
{{- $message := include "oz-agent-worker.unknown" (dict "unknown" $found.unknown "schema" $schema "path" $at) -}}
{{- fail $message -}}
{{- /* `helm lint` reports a `fail` as information and goes on; this it reports as an error. */ -}}
unknown values: [
{{- end -}}
{{- $_ := set .Values $done true -}}
{{- end -}}
{{- end -}}

{{/*
Brings the value `key` of the map `in` into the form of its `schema`, and adds to `found.unknown` the
names that it does not know. Null stays null where it has a meaning, but not in a section that is
`missing` as a whole.
*/}}
{{- define "oz-agent-worker.value" -}}
{{- $schema := .schema -}}
{{- $path := .path -}}
{{- $found := .found -}}
{{- $value := index .in .key -}}
{{- $missing := eq (include "oz-agent-worker.isMissing" (dict "value" $value "schema" $schema)) "true" -}}
{{- if $missing -}}
{{- $value = index $schema "default" -}}
{{- if and (hasKey $schema "nullable") (not .missing) -}}
{{- $value = index dict "null" -}}
{{- end -}}
{{- end -}}

{{- if kindIs "invalid" $value -}}
{{- $_ := unset .in .key -}}

{{- else if and (eq $schema.kind "section") (kindIs "map" $value) -}}
{{- $_ := set .in .key $value -}}
{{- range $name := keys $value | sortAlpha -}}
{{- if and (not (hasKey $schema.values $name)) (not (kindIs "invalid" (index $value $name))) -}}
{{- $_ := set $found "unknown" (append $found.unknown (dict "section" $path "name" $name "known" (keys $schema.values))) -}}
{{- end -}}
{{- end -}}
{{- range $name, $below := $schema.values -}}
{{- include "oz-agent-worker.value" (dict "in" $value "key" $name "schema" $below "path" (list $path $name | compact | join ".") "found" $found "missing" $missing) -}}
{{- end -}}

{{- else if eq $schema.kind "map" -}}
{{- range $name := keys $value -}}
{{- include "oz-agent-worker.value" (dict "in" $value "key" $name "schema" $schema.of "path" (printf "%s.%s" $path $name) "found" $found) -}}
{{- end -}}
{{- $_ := set .in .key $value -}}

{{- else if eq $schema.kind "list" -}}
{{- $items := list -}}
{{- range $index, $item := $value -}}
{{- $holder := dict "item" $item -}}
{{- include "oz-agent-worker.value" (dict "in" $holder "key" "item" "schema" $schema.of "path" (printf "%s[%d]" $path $index) "found" $found) -}}
{{- if hasKey $holder "item" -}}
{{- $items = append $items $holder.item -}}
{{- end -}}
{{- end -}}
{{- $_ := set .in .key $items -}}

{{- else if eq $schema.kind "integer" -}}
{{- $_ := set .in .key (include "oz-agent-worker.integer" (dict "value" (int64 $value) "schema" $schema "path" $path) | int64) -}}
{{- else if eq $schema.kind "boolean" -}}
{{- $_ := set .in .key (has (toString $value | lower) (list "true" "yes" "on" "y")) -}}
{{- else if eq $schema.kind "any" -}}
{{- include "oz-agent-worker.printable" (dict "text" (toJson $value) "pattern" "[^\\\\]\\\\u202[89]|[\\x7f-\\x{9f}]" "path" $path) -}}
{{- $_ := set .in .key $value -}}
{{- else -}}
{{- $_ := set .in .key (include "oz-agent-worker.text" (dict "value" $value "path" $path)) -}}
{{- end -}}
{{- end -}}

{{/* Whether a value counts as not given: null, and what is empty and of another kind than is meant. */}}
{{- define "oz-agent-worker.isMissing" -}}
{{- $numbers := list "int" "int64" "float64" -}}
{{- $kinds := dict "boolean" (list "bool") "integer" $numbers "list" (list "slice") "text" (append $numbers "bool") -}}
{{- $own := get $kinds .schema.kind | default (list "map") -}}
{{- if hasKey .schema "blank" -}}
{{- $own = append $own "string" -}}
{{- end -}}
{{- and (not .value) (not (has (kindOf .value) $own)) -}}
{{- end -}}

{{/*
A scalar as the text that was meant. Helm has the numbers of a values file as float64, which Go prints as
2.0240101e+07, and which holds whole numbers up to 2^53.
*/}}
{{- define "oz-agent-worker.text" -}}
{{- if kindIs "string" .value -}}
{{- include "oz-agent-worker.printable" (dict "text" .value "pattern" "[\\x7f-\\x{9f}\\x{2028}\\x{2029}]" "path" .path) -}}
{{- .value -}}
{{- else -}}
{{- if kindIs "float64" .value -}}
{{- if or (ge .value 9007199254740992.0) (le .value -9007199254740992.0) -}}
{{- fail (printf "%s is a number so large that Helm loses its last digits: put it in quotes" .path) -}}
{{- end -}}
{{- end -}}
{{- toJson .value -}}
{{- end -}}
{{- end -}}

{{/* Refuses what Helm's `toYaml` would make a space of, or lose with all that is around it. */}}
{{- define "oz-agent-worker.printable" -}}
{{- if regexMatch .pattern .text -}}
{{- fail (printf "%s has a character that Helm cannot write as YAML: U+007F to U+009F, U+2028 or U+2029" .path) -}}
{{- end -}}
{{- end -}}

{{/* A whole number within its limits; those of numbers that were no text the JSON Schema has checked. */}}
{{- define "oz-agent-worker.integer" -}}
{{- $low := hasKey .schema "minimum" | ternary (int64 (get .schema "minimum")) .value -}}
{{- $high := hasKey .schema "maximum" | ternary (int64 (get .schema "maximum")) .value -}}
{{- if or (lt .value $low) (gt .value $high) -}}
{{- $allowed := hasKey .schema "maximum" | ternary (printf "%d to %d" $low $high) (printf "%d or more" $low) -}}
{{- fail (printf "%s is %d: allowed is %s" .path .value $allowed) -}}
{{- end -}}
{{- .value -}}
{{- end -}}

{{/* The message about names that the chart does not know. */}}
{{- define "oz-agent-worker.unknown" -}}
{{- $schema := .schema -}}
{{- $at := .path -}}
{{- $nulls := list -}}
{{- $lines := list -}}
{{- range .unknown -}}
{{- $path := list .section .name | compact | join "." -}}
{{- $near := include "oz-agent-worker.nearest" . -}}
{{- $meant := include "oz-agent-worker.paths" (dict "schema" $schema "name" .name "path" $at) | splitList "\n" | compact -}}
{{- if gt (len $meant) 1 -}}
{{- $meant = list -}}
{{- end -}}
{{- $hint := "" -}}
{{- if $near -}}
{{- $meant = prepend $meant (list .section $near | compact | join ".") | uniq -}}
{{- else -}}
{{- $hint = printf " known here are %s" (.known | sortAlpha | join ", ") -}}
{{- end -}}
{{- if $meant -}}
{{- $hint = printf " did you mean %s?%s" (join " or " $meant) $hint -}}
{{- end -}}
{{- $lines = append $lines (printf "  %s:%s" $path $hint) -}}
{{- if not (contains "[" $path) -}}
{{- $nulls = append $nulls (printf "--set %s=null" (list .section (.name | replace "." "\\.") | compact | join ".")) -}}
{{- end -}}
{{- end -}}
{{- printf "this chart has no such values:\n%s\nA misspelt value would have no effect. Correct it or remove it" (join "\n" $lines) -}}
{{- if $nulls -}}
{{- printf "; to install without it:\n  %s" (join " " $nulls) -}}
{{- end -}}
{{- end -}}

{{/*
The known name that is the most like a name: that has the same letters, or contains it, or has the most
pairs of neighbouring letters in common with it, and more than half of them.
*/}}
{{- define "oz-agent-worker.nearest" -}}
{{- $name := .name | lower | replace "_" "" | replace "-" "" -}}
{{- $nearest := "" -}}
{{- $most := 54 -}}
{{- range $known := .known | sortAlpha -}}
{{- $shared := 0 -}}
{{- range $at := until (sub (len $known) 1 | int) -}}
{{- if contains (substr $at (add $at 2 | int) (lower $known)) $name -}}
{{- $shared = add1 $shared -}}
{{- end -}}
{{- end -}}
{{- $score := div (mul 200 $shared) (sub (add (len $known) (len $name)) 2 | max 1) -}}
{{- if contains $name (lower $known) -}}
{{- $score = max $score 60 -}}
{{- end -}}
{{- if eq (splitList "" $name | sortAlpha | join "") (splitList "" (lower $known) | sortAlpha | join "") -}}
{{- $score = 100 -}}
{{- end -}}
{{- if gt $score $most -}}
{{- $nearest = $known -}}
{{- $most = $score -}}
{{- end -}}
{{- end -}}
{{- $nearest -}}
{{- end -}}

{{/* The paths of all values of a name, one a line. */}}
{{- define "oz-agent-worker.paths" -}}
{{- $name := .name -}}
{{- $path := .path -}}
{{- range $below, $schema := index .schema "values" | default dict -}}
{{- $here := list $path $below | compact | join "." -}}
{{- if eq (lower $below) (lower $name) }}
{{ $here }}
{{- end -}}
{{- include "oz-agent-worker.paths" (dict "schema" $schema "name" $name "path" $here) -}}
{{- end -}}
{{- end -}}
