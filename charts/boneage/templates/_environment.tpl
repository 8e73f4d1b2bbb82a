{{/* What processes are told, by role: lists of environment variables. All take root, name and spec. */}}

{{- define "boneage.env.server" -}}
- name: BONEAGE_HOST
  value: 0.0.0.0
- name: BONEAGE_DRAIN_DELAY_S
  value: {{ .root.Values.drain.delaySeconds | quote }}
- name: BONEAGE_DRAIN_GRACE_S
  value: {{ .root.Values.drain.graceSeconds | quote }}
{{ include "boneage.env.tls" . }}
{{- if and (include "boneage.tlsSecret" .) (has .name .root.Values.tls.mutual) }}
- name: BONEAGE_TLS_CLIENT_CA_FILE
  value: /etc/boneage/tls/ca.crt
{{- end }}
{{- end -}}

{{- define "boneage.env.tls" -}}
{{- if include "boneage.tlsSecret" . -}}
- name: BONEAGE_TLS_CERTIFICATE_FILE
  value: /etc/boneage/tls/tls.crt
- name: BONEAGE_TLS_KEY_FILE
  value: /etc/boneage/tls/tls.key
{{- end -}}
{{- end -}}

{{/* How the other services are reached. */}}
{{- define "boneage.env.caller" -}}
{{- if include "boneage.tlsSecret" . -}}
- name: BONEAGE_STAGE_TLS_CA_FILE
  value: /etc/boneage/tls/ca.crt
- name: BONEAGE_STAGE_TLS_CERTIFICATE_FILE
  value: /etc/boneage/tls/tls.crt
- name: BONEAGE_STAGE_TLS_KEY_FILE
  value: /etc/boneage/tls/tls.key
{{- end -}}
{{- end -}}

{{- define "boneage.env.runtime" -}}
- name: BONEAGE_INFERENCE
  value: {{ .root.Values.inference.runtime }}
{{- if include "boneage.onTriton" . }}
- name: BONEAGE_TRITON_URL
  value: {{ include "boneage.address" (dict "root" .root "name" "triton" "port" 8001 "suffix" .suffix) }}
{{- end }}
- name: BONEAGE_HOST_KEY_FILE
  value: /etc/boneage/host-key/key
{{- end -}}

{{- define "boneage.env.model" -}}
- name: BONEAGE_MODEL_REPOSITORY
  value: /var/lib/boneage/repository
{{ include "boneage.env.runtime" . }}
{{- with include "common.cores" .spec }}
- name: BONEAGE_ONNX_THREADS
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "boneage.env.stages" -}}
{{- range include "boneage.withRole" (dict "root" .root "role" "model") | fromJsonArray }}
- name: BONEAGE_{{ upper . }}_ADDRESS
  value: {{ include "boneage.address" (dict "root" $.root "name" . "port" 50051) }}
{{- end }}
{{ include "boneage.env.caller" . }}
{{- end -}}

{{- define "boneage.env.routing" -}}
- name: BONEAGE_RELEASE_ADDRESS
  value: {{ include "boneage.address" (dict "root" .root "name" "release" "port" 50051) }}
- name: BONEAGE_ROUTING_FILE
  value: /var/lib/boneage/routing/routing.json
{{- end -}}

{{/* Where the store is, and the credentials for it: `secret` is the Secret's name. */}}
{{- define "boneage.env.storeAt" -}}
- name: BONEAGE_STORE
  value: {{ include "boneage.storeUrl" . | quote }}
{{- with .root.Values.store }}
{{- if .url }}
{{- with .s3.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
- name: AWS_DEFAULT_REGION
  value: {{ .s3.region | quote }}
{{- if $.secret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $.secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with include "boneage.trustFiles" . }}
- name: BONEAGE_TRUSTED_KEY_FILES
  value: {{ . }}
{{- end }}
{{- end -}}

{{/* What the values add to whatever opens the store; it wins over what the chart says. */}}
{{- define "boneage.env.storeExtra" -}}
{{- with .root.Values.store.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* How much the helpers beside a service say, which have no settings of their own. */}}
{{- define "boneage.env.logging" -}}
{{- with .spec.settings.LOG_LEVEL }}
- name: BONEAGE_LOG_LEVEL
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "boneage.env.store" -}}
{{ include "boneage.env.storeAt" (merge (dict "secret" .root.Values.store.s3.writerSecret) .) }}
{{- end -}}

{{- define "boneage.env.release" -}}
{{- $hosts := list -}}
{{- range include "boneage.withRole" (dict "root" .root "role" "model") | fromJsonArray -}}
{{- $hosts = append $hosts (include "boneage.address" (dict "root" $.root "name" . "port" 50051 "suffix" "-instances")) -}}
{{- end -}}
- name: BONEAGE_LEASE
  value: {{ .root.Release.Namespace }}/{{ include "common.objectName" . }}
- name: BONEAGE_MODEL_HOSTS
  value: {{ join "," $hosts }}
{{ include "boneage.env.runtime" (merge (dict "suffix" "-instances") .) }}
- name: BONEAGE_TRITON_FLAVOUR
  value: {{ .root.Values.triton.flavour }}
{{- if .root.Values.callers.existingSecret }}
- name: BONEAGE_CALLERS_FILE
  value: /etc/boneage/callers/callers.json
{{- end }}
- name: BONEAGE_ASSESSMENT_METRICS
  value: {{ include "boneage.address" (dict "root" .root "name" "assessment" "port" 9100 "suffix" "-instances") }}
{{- with .root.Values.rollout }}
- name: BONEAGE_AUTOMATIC
  value: {{ .automatic | quote }}
- name: BONEAGE_SHADOW_ASSESSMENTS
  value: {{ .shadowAssessments | quote }}
- name: BONEAGE_CANARY_ASSESSMENTS
  value: {{ .canaryAssessments | quote }}
- name: BONEAGE_CANARY_PERMILLE
  value: {{ .canaryPermille | quote }}
- name: BONEAGE_READY_TIMEOUT_S
  value: {{ .readyTimeoutSeconds | quote }}
{{- end }}
{{ include "boneage.env.caller" . }}
{{- end -}}

{{/* All of a service: as a server, by its roles, and what its values add, which wins (see common.env). */}}
{{- define "boneage.environment" -}}
{{ include "boneage.env.server" . }}
{{- range .spec.roles }}
{{ include (printf "boneage.env.%s" .) $ }}
{{- end }}
{{ include "common.threads" .spec }}
{{- if has "store" .spec.roles }}
{{- include "boneage.env.storeExtra" . }}
{{- end }}
{{- range $key, $value := .spec.settings }}
- name: BONEAGE_{{ $key }}
  value: {{ $value | quote }}
{{- end }}
{{- with .spec.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
