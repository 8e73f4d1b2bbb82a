{{/* Containers that do one thing and end: checks, and what is made ready. */}}

{{/*
One of them, by its roles as in boneage.volumes. Takes root, spec (of what it takes image and placement from), name (whose
certificate it has), task (its own name), command, roles, and where needed secret (for the store), env, mounts and early
(see boneage.trustMap).
*/}}
{{- define "boneage.task" -}}
{{- $volumes := include "boneage.volumes" . | fromYaml -}}
- name: {{ .task }}
  {{- include "common.container" (dict "root" .root "image" .spec.image) | nindent 2 }}
  command:
    {{- toYaml .command | nindent 4 }}
  {{- with include "common.env" (include "boneage.taskEnv" .) }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .root.Values.checks.resources | nindent 4 }}
  volumeMounts:
    {{- include "boneage.mounts" (dict "volumes" $volumes "extra" (concat (.mounts | default list) .spec.extraVolumeMounts)) | nindent 4 }}
{{- end -}}

{{- define "boneage.taskEnv" -}}
{{- if or (has "store" .roles) (has "store-reader" .roles) }}
{{ include "boneage.env.storeAt" . }}
{{- end }}
{{- if has "server" .roles }}
{{ include "boneage.env.tls" . }}
{{- end }}
{{- with .env }}
{{ . }}
{{- end }}
{{- include "boneage.env.logging" . }}
{{- if or (has "store" .roles) (has "store-reader" .roles) }}
{{- include "boneage.env.storeExtra" . }}
{{- end }}
{{- end -}}

{{/* The pod around such containers. Takes besides containers (their YAML), tables (of their volumes) and volumes (more). */}}
{{- define "boneage.taskPod" -}}
{{- include "common.pod" . }}
restartPolicy: Never
{{- with .spec.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  {{- .containers | nindent 2 }}
volumes:
  {{- include "boneage.podVolumes" (dict "volumes" .tables "extra" (concat (.volumes | default list) .spec.extraVolumes)) | nindent 2 }}
{{- end -}}
