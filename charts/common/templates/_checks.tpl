{{/* Checks against the cluster, made while a chart is rendered for one. */}}

{{/* Not empty where a cluster answers: its account `default` is in every namespace that is there already. */}}
{{- define "common.clusterAnswers" -}}
{{- if and .root.Values.checks.lookup (lookup "v1" "ServiceAccount" .root.Release.Namespace "default") -}}
yes
{{- end -}}
{{- end -}}

{{/*
Fails where an object that values name is missing, or lacks one of its keys, and says how to make it.
Takes root, kind (Secret, ConfigMap or PersistentVolumeClaim), object (its name), keys, value (where it is named) and
create (the command that makes it).
*/}}
{{- define "common.required" -}}
{{- if and .object (include "common.clusterAnswers" .) -}}
{{- $found := lookup "v1" .kind .root.Release.Namespace .object -}}
{{- $say := printf "%s names the %s %q, which is not in the namespace %s." .value .kind .object .root.Release.Namespace -}}
{{- $make := printf "Make it first:\n\n    %s\n\nor set checks.lookup=false where it comes later.\n" .create -}}
{{- if not $found -}}
{{- fail (printf "\n\n%s %s" $say $make) -}}
{{- end -}}
{{- range .keys -}}
{{- if not (hasKey ($found.data | default dict) .) -}}
{{- fail (printf "\n\n%s names the %s %q, which has no key %q. %s" $.value $.kind $.object . $make) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
