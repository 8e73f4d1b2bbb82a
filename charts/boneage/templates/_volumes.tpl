{{/* Where files come from, and where a container sees them: one table, so that volumes and mounts agree. */}}

{{/*
Volumes of a container, by name: `source` as in a pod, `at` where it is mounted, `readOnly`. By the roles of a service, and
`server` (each of them), `copy` (the sync), `triton` and `store-reader`. Takes root, name, roles, and where needed early
(see boneage.trustMap).
*/}}
{{- define "boneage.volumes" -}}
tmp:
  source: {emptyDir: {}}
  at: /tmp
{{- if and (has "server" .roles) (include "boneage.tlsSecret" .) }}
tls:
  # Whole, since a file that is mounted by itself never changes when its Secret does.
  source: {secret: {secretName: {{ include "boneage.tlsSecret" . }}, defaultMode: 0440}}
  at: /etc/boneage/tls
  readOnly: true
{{- end }}
{{- if or (has "model" .roles) (has "release" .roles) }}
host-key:
  source: {secret: {secretName: {{ include "boneage.hostKeySecret" . }}, defaultMode: 0440}}
  at: /etc/boneage/host-key
  readOnly: true
{{- end }}
{{- if or (has "model" .roles) (has "copy" .roles) (has "triton" .roles) }}
repository:
  source: {emptyDir: {sizeLimit: {{ .root.Values.sync.sizeLimit }}}}
  at: /var/lib/boneage/repository
  readOnly: {{ not (has "copy" .roles) }}
{{- end }}
{{- if has "routing" .roles }}
routing:
  source: {emptyDir: {}}
  at: /var/lib/boneage/routing
{{- end }}
{{- if or (has "store" .roles) (has "copy" .roles) (has "store-reader" .roles) }}
{{- with include "boneage.storeClaim" . }}
store:
  source: {persistentVolumeClaim: {claimName: {{ . }}}}
  at: /srv/store
  readOnly: {{ not (has "store" $.roles) }}
{{- end }}
{{- with include "boneage.trustMap" . }}
trusted-keys:
  source: {configMap: {name: {{ . }}}}
  at: /etc/boneage/trusted-keys
  readOnly: true
{{- end }}
{{- end }}
{{- if and (has "release" .roles) .root.Values.callers.existingSecret }}
callers:
  source: {secret: {secretName: {{ .root.Values.callers.existingSecret }}, defaultMode: 0440}}
  at: /etc/boneage/callers
  readOnly: true
{{- end }}
{{- if has "triton" .roles }}
shared-memory:
  source: {emptyDir: {medium: Memory, sizeLimit: {{ .root.Values.triton.sharedMemory }}}}
  at: /dev/shm
{{- if eq .root.Values.triton.flavour "gpu" }}
engines:
  source: {persistentVolumeClaim: {claimName: {{ include "boneage.enginesClaim" . }}}}
  at: /var/cache/boneage/tensorrt
{{- end }}
{{- end }}
{{- end -}}

{{/* Takes volumes (the tables of all containers of the pod) and extra. */}}
{{- define "boneage.podVolumes" -}}
{{- $all := dict -}}
{{- range .volumes }}{{ $all = merge $all . }}{{ end -}}
{{- range $name, $volume := $all }}
- name: {{ $name }}
  {{- toYaml $volume.source | nindent 2 }}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes volumes (the table of the container) and extra. */}}
{{- define "boneage.mounts" -}}
{{- range $name, $volume := .volumes }}
- name: {{ $name }}
  mountPath: {{ $volume.at }}
  {{- if $volume.readOnly }}
  readOnly: true
  {{- end }}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}
