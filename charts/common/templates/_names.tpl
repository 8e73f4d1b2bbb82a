{{/* Names and labels. All take a dict: root (the chart's $) and, where an object belongs to one, name (the component). */}}

{{- define "common.name" -}}
{{- .root.Values.nameOverride | default .root.Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that the longest name that is made of it is still one of a Service (63). */}}
{{- define "common.fullname" -}}
{{- $name := include "common.name" . -}}
{{- $full := ternary .root.Release.Name (printf "%s-%s" .root.Release.Name $name) (contains $name .root.Release.Name) -}}
{{- .root.Values.fullnameOverride | default $full | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "common.objectName" -}}
{{ include "common.fullname" . }}-{{ .name }}
{{- end -}}

{{/* What never changes while an object lives, and is on its pods too. */}}
{{- define "common.selectorLabels" -}}
app.kubernetes.io/name: {{ include "common.name" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .name }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "common.labels" -}}
{{ include "common.selectorLabels" . }}
app.kubernetes.io/part-of: boneage
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The head of an object: kind's metadata under the component's name, or under `object` where that is another. */}}
{{- define "common.metadata" -}}
name: {{ .object | default (include "common.objectName" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "common.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
