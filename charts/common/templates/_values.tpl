{{/* Reading values. */}}

{{/*
`over` laid upon `base`, as YAML: maps key by key, all else whole; false, 0 and empty count (sprig's mergeOverwrite skips
them), null takes a key away.
*/}}
{{- define "common.overlaid" -}}
{{- $out := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $out $key -}}
{{- else if and (kindIs "map" $value) (kindIs "map" (index $out $key)) -}}
{{- $_ := set $out $key (include "common.overlaid" (dict "base" (index $out $key) "over" $value) | fromYaml) -}}
{{- else -}}
{{- $_ := set $out $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{/* The reference of an image: a digest wins over a tag, and no tag is the chart's appVersion. Takes root, image. */}}
{{- define "common.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $name .image.digest }}
{{- else -}}
{{ printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{/* Whole cores of the limit in `resources`, rounded up; nothing where there is no limit. */}}
{{- define "common.cores" -}}
{{- $limit := dig "limits" "cpu" "" .resources | toString -}}
{{- if hasSuffix "m" $limit -}}
{{ divf (trimSuffix "m" $limit | float64) 1000 | ceil | int }}
{{- else if $limit -}}
{{ $limit | float64 | ceil | int }}
{{- end -}}
{{- end -}}

{{/* Threads by the limit: a library that counts the node's cores would start too many. Takes resources, and
processesPerNode where several processes share them. */}}
{{- define "common.threads" -}}
{{- with include "common.cores" . -}}
- name: OMP_NUM_THREADS
  value: {{ max 1 (div . ($.processesPerNode | default 1)) | quote }}
{{- end -}}
{{- end -}}

{{/*
The environment of a container: the list in a YAML text, where a name that is there again takes the place of the one
before. A server-side apply refuses a name that is there twice.
*/}}
{{- define "common.env" -}}
{{- $entries := fromYamlArray . -}}
{{- $last := dict -}}
{{- range $at, $entry := $entries }}{{ $_ := set $last $entry.name $at }}{{ end -}}
{{- $out := list -}}
{{- range $at, $entry := $entries -}}
{{- if eq $at (index $last $entry.name) }}{{ $out = append $out $entry }}{{ end -}}
{{- end -}}
{{- with $out }}{{ toYaml . }}{{ end -}}
{{- end -}}
