{{/* Pods that Pod Security's level "restricted" lets in. `spec` is a component's values. */}}

{{- define "common.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "common.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The head of a container: image and security. Takes root and image. */}}
{{- define "common.container" -}}
image: {{ include "common.image" . | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
# What a process says last stands in the pod's status too, which outlives its logs.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "common.containerSecurity" . | nindent 2 }}
{{- end -}}

{{/* All of a pod but its containers and volumes: who it is, and where it may run. Takes root, name, spec; `token` true
gives it the right to speak to Kubernetes, `account` another account's name. */}}
{{- define "common.pod" -}}
serviceAccountName: {{ .account | default (include "common.objectName" .) }}
automountServiceAccountToken: {{ .token | default false }}
# The addresses of other Services would stand in the environment under names like those of our settings.
enableServiceLinks: false
securityContext:
  {{- include "common.podSecurity" . | nindent 2 }}
{{- with concat .root.Values.global.imagePullSecrets .spec.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .spec.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .spec.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .spec.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .spec.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How long a pod stays bound to a node that has gone. Takes spec and seconds. */}}
{{- define "common.tolerations" -}}
tolerations:
  {{- range list "not-ready" "unreachable" }}
  - key: node.kubernetes.io/{{ . }}
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ $.seconds }}
  {{- end }}
  {{- with .spec.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "common.spread" -}}
{{- with .spec.topologySpread.whenUnsatisfiable }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ . }}
    # A node that is drained or lost is none to wait for.
    nodeTaintsPolicy: Honor
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "common.selectorLabels" $ | nindent 8 }}
{{- end }}
{{- end -}}
