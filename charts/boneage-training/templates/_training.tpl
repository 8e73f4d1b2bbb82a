{{/* What the objects of this chart have in common. */}}

{{/*
The chart's own root for the helpers of `common`, as JSON: objects are named for the release, and of that at most 36
characters, since a CronJob's name has at most 52.
*/}}
{{- define "training.root" -}}
{{- $full := .Values.fullnameOverride | default .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- $values := merge (dict "fullnameOverride" $full) (omit .Values "jobs" "common") -}}
{{- dict "Values" $values "Chart" (dict "Name" .Chart.Name "Version" .Chart.Version "AppVersion" .Chart.AppVersion)
  "Release" (dict "Name" .Release.Name "Namespace" .Release.Namespace "Service" .Release.Service) | toJson -}}
{{- end -}}

{{/* What a pod of a job is known by to NetworkPolicies. Takes root. */}}
{{- define "training.jobSelector" -}}
{{ include "common.selectorLabels" (dict "root" .root) }}
boneage/role: job
{{- end -}}

{{/* Pods that train together may call each other. */}}
{{- define "training.nodesSelector" -}}
{{ include "training.jobSelector" . }}
boneage/nodes: several
{{- end -}}

{{/* The PriorityClass of the jobs, if there is one. */}}
{{- define "training.priorityClass" -}}
{{- if .Values.priorityClass.create -}}
{{ .Release.Namespace }}-{{ (include "training.root" . | fromJson).Values.fullnameOverride }}
{{- end -}}
{{- end -}}

{{/* A claim that stays when the chart is uninstalled. Takes root, name and claim. */}}
{{- define "training.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "common.metadata" (dict "root" .root "name" .name "annotations" (dict "helm.sh/resource-policy" "keep")) | nindent 2 }}
spec:
  accessModes:
    {{- toYaml .claim.accessModes | nindent 4 }}
  {{- with .claim.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  {{- with .claim.volumeName }}
  volumeName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .claim.size }}
{{- end -}}
