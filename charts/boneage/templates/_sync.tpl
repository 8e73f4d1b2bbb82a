{{- define "boneage.syncVolumes" -}}
{{ include "boneage.volumes" (dict "root" .root "name" .name "roles" (list "copy")) }}
{{- end -}}

{{- define "boneage.syncEnv" -}}
- name: BONEAGE_MODEL_REPOSITORY
  value: /var/lib/boneage/repository
- name: BONEAGE_SYNC_INTERVAL_S
  value: {{ .root.Values.sync.intervalSeconds | quote }}
- name: BONEAGE_TRITON_FLAVOUR
  value: {{ .root.Values.triton.flavour }}
{{ include "boneage.env.storeAt" (dict "root" .root "secret" .root.Values.store.s3.existingSecret) }}
{{- include "boneage.env.logging" . }}
{{- include "boneage.env.storeExtra" . }}
{{- end -}}

{{/* The sidecar that fills the repository of a pod: what runs the models starts once a release is there. Takes root,
name and spec. */}}
{{- define "boneage.sync" -}}
- name: sync
  restartPolicy: Always
  {{- include "common.container" (dict "root" .root "image" .root.Values.sync.image) | nindent 2 }}
  command: [python, -m, services.release.sync]
  env:
    {{- include "common.env" (include "boneage.syncEnv" .) | nindent 4 }}
  startupProbe:
    exec:
      command: [test, -s, /var/lib/boneage/repository/releases/current]
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 300
  resources:
    {{- toYaml .root.Values.sync.resources | nindent 4 }}
  volumeMounts:
    {{- $volumes := include "boneage.syncVolumes" . | fromYaml }}
    {{- include "boneage.mounts" (dict "volumes" $volumes "extra" .root.Values.sync.extraVolumeMounts) | nindent 4 }}
{{- end -}}
