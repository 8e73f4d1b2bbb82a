{{/* What is tried before anything is installed or upgraded. Takes root. */}}

{{/* The store, where it is there already: one that the chart makes is tried by the release service's pod. */}}
{{- define "boneage.triesStore" -}}
{{- if and .root.Values.checks.preflight (or .root.Values.store.url .root.Values.store.existingClaim) }}yes{{ end -}}
{{- end -}}

{{/* A GPU, while no Triton is there: GPUs that are all taken by ours are no reason to refuse an upgrade. */}}
{{- define "boneage.triesGpu" -}}
{{- if and .root.Values.checks.preflight (include "boneage.onTriton" .) (include "boneage.gpus" .) -}}
{{- $triton := include "common.objectName" (dict "root" .root "name" "triton") -}}
{{- if not (lookup "apps/v1" "Deployment" .root.Release.Namespace $triton) }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{/* Of the store's task: certificates that cert-manager makes are not there yet. As a JSON list. */}}
{{- define "boneage.preflightRoles" -}}
{{- $roles := list -}}
{{- if include "boneage.triesStore" . }}{{ $roles = append $roles "store" }}{{ end -}}
{{- if and $roles (eq .root.Values.tls.mode "existingSecret") }}{{ $roles = append $roles "server" }}{{ end -}}
{{- toJson $roles -}}
{{- end -}}

{{- define "boneage.preflightContainers" -}}
{{- $task := dict "root" .root "name" "release" "spec" .spec "early" true -}}
{{- if include "boneage.triesStore" . }}
{{- $roles := include "boneage.preflightRoles" . | fromJsonArray }}
{{- $doctor := list "boneage" "doctor" "--cluster" }}
{{ include "boneage.task" (merge (dict "task" "writer" "command" (append $doctor "--store-writable") "roles" $roles "secret" .root.Values.store.s3.writerSecret) $task) }}
{{- if .root.Values.store.url }}
{{ include "boneage.task" (merge (dict "task" "reader" "command" $doctor "roles" (list "store-reader") "secret" .root.Values.store.s3.existingSecret) $task) }}
{{- end }}
{{- end }}
{{- if include "boneage.triesGpu" . }}
{{- $command := list "boneage" "doctor" "--cluster" "--schedulable" "/etc/boneage/preflight/pod.yaml" }}
{{- $mounts := list (dict "name" "preflight" "mountPath" "/etc/boneage/preflight" "readOnly" true) }}
{{- /* The pod on trial belongs to this one, so that it goes with it whatever happens. */}}
{{- $env := list }}
{{- range $name, $field := dict "POD_NAME" "metadata.name" "POD_UID" "metadata.uid" }}
{{- $env = append $env (dict "name" $name "valueFrom" (dict "fieldRef" (dict "fieldPath" $field))) }}
{{- end }}
{{ include "boneage.task" (merge (dict "task" "gpu" "command" $command "roles" list "mounts" $mounts "env" (toYaml $env)) $task) }}
{{- end }}
{{- end -}}

{{/* A pod that asks for what one Triton asks for, and for where it may run; it is never to start. */}}
{{- define "boneage.gpuProbe" -}}
{{- $spec := include "boneage.spec" (dict "root" .root "name" "triton") | fromYaml -}}
{{- $limits := merge (dict $spec.gpuResource (include "boneage.gpus" .)) ($spec.resources.limits | default dict) -}}
apiVersion: v1
kind: Pod
metadata:
  generateName: {{ include "common.objectName" (dict "root" .root "name" "preflight") }}-gpu-
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "common.selectorLabels" (dict "root" .root "name" "preflight") | nindent 4 }}
spec:
  {{- include "common.pod" (dict "root" .root "name" "preflight" "spec" $spec) | nindent 2 }}
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  {{- with $spec.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: probe
      {{- include "common.container" (dict "root" .root "image" .spec.image) | nindent 6 }}
      command: ["true"]
      resources:
        {{- toYaml (merge (dict "limits" $limits) $spec.resources) | nindent 8 }}
{{- end -}}

{{/* Metadata of an object of the hook. Takes root, weight, and more annotations. */}}
{{- define "boneage.hookMetadata" -}}
{{- $annotations := dict
  "helm.sh/hook" "pre-install,pre-upgrade"
  "helm.sh/hook-weight" .weight
  "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" -}}
{{- with .more }}{{ $annotations = merge $annotations . }}{{ end -}}
{{- with .logs }}{{ $_ := set $annotations "helm.sh/hook-output-log-policy" . }}{{ end -}}
{{- include "common.metadata" (dict "root" .root "name" "preflight" "annotations" $annotations) -}}
{{- end -}}
