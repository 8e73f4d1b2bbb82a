{{/*
Fails where values use names that a chart's renamed.yaml lists as old, and says the new ones. Takes root.
*/}}
{{- define "common.renamed" -}}
{{- $told := list -}}
{{- range .root.Files.Get "renamed.yaml" | fromYamlArray -}}
{{- $at := $.root.Values -}}
{{- range splitList "." .old -}}
{{- $at = ternary (get $at .) "" (kindIs "map" $at) -}}
{{- end -}}
{{- if ne (toString $at) "" -}}
{{- $told = append $told (printf "%s was renamed to %s in chart %s: %s." .old .new .chart .why) -}}
{{- end -}}
{{- end -}}
{{- if $told -}}
{{- $hint := "Give the new name in your values. Where the old one comes from --reuse-values, use --reset-then-reuse-values." -}}
{{- fail (printf "\n\n  - %s\n\n%s\n" (join "\n  - " $told) $hint) -}}
{{- end -}}
{{- end -}}
