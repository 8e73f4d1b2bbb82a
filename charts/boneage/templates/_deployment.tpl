{{/* Objects of one component. All take root, name and spec. */}}

{{/* A Deployment around the containers of a pod: takes besides `pod`, their YAML (initContainers, containers, volumes), and
`token`, whether it may speak to Kubernetes. */}}
{{- define "boneage.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "common.metadata" (dict "root" .root "name" .name "labels" .spec.labels "annotations" .spec.annotations) | nindent 2 }}
spec:
  {{- if not .spec.autoscaling.enabled }}
  replicas: {{ .spec.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  minReadySeconds: {{ .spec.minReadySeconds }}
  # What a pod may take to start, and ten minutes for the pull of its images and the first copy of the releases.
  progressDeadlineSeconds: {{ add .spec.startupSeconds .spec.minReadySeconds 600 }}
  strategy:
    rollingUpdate:
      {{- toYaml .spec.rollingUpdate | nindent 6 }}
  selector:
    matchLabels:
      {{- include "common.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "common.selectorLabels" . | nindent 8 }}
        app.kubernetes.io/part-of: boneage
        {{- with .spec.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .name }}
        {{- with .root.Values.trust.keys }}
        boneage/trusted-keys: {{ toJson . | sha256sum }} # read at the start only
        {{- end }}
        {{- with .spec.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "common.pod" . | nindent 6 }}
      {{- include "common.tolerations" (dict "spec" .spec "seconds" .spec.nodeLossSeconds) | nindent 6 }}
      {{- with include "common.spread" . }}
      {{- . | nindent 6 }}
      {{- end }}
      terminationGracePeriodSeconds: {{ include "boneage.terminationSeconds" . }}
      {{- .pod | nindent 6 }}
{{- end -}}

{{/* Two Services: the one that is called, and all pods, with metrics. `ports` is a map of name to port, `called` those of
the first, `headless` whether that one is. */}}
{{- define "boneage.services" -}}
{{- $secret := ternary "" (include "boneage.tlsSecret" .) (eq .name "triton") -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "common.metadata" (dict "root" .root "name" .name "labels" .spec.labels "annotations" (merge (dict) .spec.service.annotations .spec.annotations)) | nindent 2 }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- else }}
  type: {{ .spec.service.type }}
  {{- end }}
  selector:
    {{- include "common.selectorLabels" . | nindent 4 }}
  ports:
    {{- include "boneage.ports" (dict "ports" (pick .ports "grpc") "secret" $secret) | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "common.metadata" (dict "root" .root "name" .name "object" (printf "%s-instances" (include "common.objectName" .)) "labels" .spec.labels "annotations" .spec.annotations) | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: {{ .headless }}
  selector:
    {{- include "common.selectorLabels" . | nindent 4 }}
  ports:
    {{- include "boneage.ports" (dict "ports" .ports "secret" $secret) | nindent 4 }}
{{- end -}}

{{/* Takes ports, and the Secret of the certificate that they are served with, if any. */}}
{{- define "boneage.ports" -}}
{{- range $name, $port := .ports }}
- name: {{ $name }}
  port: {{ $port }}
  targetPort: {{ $name }}
  {{- if eq $name "grpc" }}
  appProtocol: {{ ternary "https" "kubernetes.io/h2c" (ne $.secret "") }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What every component has besides. */}}
{{- define "boneage.surroundings" -}}
{{ include "common.serviceAccount" (merge (dict "annotations" .spec.accountAnnotations) .) }}
{{- if .spec.disruptionBudget.enabled }}
---
{{ include "common.disruptionBudget" . }}
{{- end }}
{{- if .spec.autoscaling.enabled }}
---
{{ include "common.autoscaler" . }}
{{- end }}
{{- end -}}
