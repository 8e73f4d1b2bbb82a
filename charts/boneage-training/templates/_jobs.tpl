{{/* One job: its configuration, environment, volumes and pod. All take root (see training.root), values, name, spec. */}}

{{/* The job's file: its `config`, with the data set where it belongs. */}}
{{- define "training.config" -}}
{{- $config := dict -}}
{{- with .spec.dataset -}}
{{- $inner := $.values.dataset -}}
{{- range splitList "." . | reverse -}}
{{- $inner = dict . $inner -}}
{{- end -}}
{{- $config = $inner -}}
{{- end -}}
{{- if and (has "sign" .spec.roles) .values.signing.existingSecret -}}
{{- $_ := set $config "signing_key" "$SIGNING_KEY" -}}
{{- end -}}
{{- include "common.overlaid" (dict "base" $config "over" .spec.config) -}}
{{- end -}}

{{/* The Secret with the store's keys that the job's role asks for; a reader without one of its own takes the writer's. */}}
{{- define "training.storeSecret" -}}
{{- if has "write-store" .spec.roles -}}
{{ .values.store.s3.writerSecret }}
{{- else if has "read-store" .spec.roles -}}
{{ .values.store.s3.existingSecret | default .values.store.s3.writerSecret }}
{{- end -}}
{{- end -}}

{{- define "training.opensStore" -}}
{{- if or (has "write-store" .spec.roles) (has "read-store" .spec.roles) -}}yes{{- end -}}
{{- end -}}

{{- define "training.environment" -}}
- {name: RADIOGRAPHS, value: /data}
- {name: RUNS, value: /work}
- {name: HOME, value: /tmp}
- {name: MPLCONFIGDIR, value: /tmp/matplotlib}
{{- /* A CronJob or `boneage jobs` reads here how the run ended; one that waits for outlines has not failed. */}}
- {name: TRAINING_OUTCOME_FILE, value: /dev/termination-log}
- {name: TRAINING_WAITING_EXIT_CODE, value: "0"}
{{- with include "common.threads" .spec }}
{{ . }}
{{- end }}
{{- if include "training.opensStore" . }}
- name: STORE
  value: {{ .values.store.url | default "/srv/store" | quote }}
{{- if .values.store.url }}
{{- with .values.store.s3.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
- name: AWS_DEFAULT_REGION
  value: {{ .values.store.s3.region | quote }}
{{- with include "training.storeSecret" . }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ include "training.storeSecret" $ }}, key: {{ . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if has "sign" .spec.roles }}
{{- with .values.signing.existingSecret }}
- name: SIGNING_KEY
  value: /etc/boneage/signing/{{ $.values.signing.key }}
{{- end }}
{{- end }}
{{- if has "annotate" .spec.roles }}
{{- with .values.labelStudio.tokenSecret }}
- name: LABEL_STUDIO_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: LABEL_STUDIO_TOKEN}
{{- end }}
{{- end }}
{{- if include "training.together" . }}
- name: JOB_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['batch.kubernetes.io/job-name']
{{- end }}
{{- if include "training.opensStore" . }}
{{- with .values.store.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- with .spec.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "training.mounts" -}}
- {name: config, mountPath: /etc/boneage/job, readOnly: true}
- name: data
  mountPath: /data
  readOnly: true
  {{- with .values.data.subPath }}
  subPath: {{ . }}
  {{- end }}
- {name: work, mountPath: /work}
- {name: tmp, mountPath: /tmp}
{{- if and (include "training.opensStore" .) (not .values.store.url) }}
- {name: store, mountPath: /srv/store, readOnly: {{ not (has "write-store" .spec.roles) }}}
{{- end }}
{{- if and (has "sign" .spec.roles) .values.signing.existingSecret }}
- {name: signing, mountPath: /etc/boneage/signing, readOnly: true}
{{- end }}
{{- if .spec.sharedMemory }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- with .spec.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "training.volumes" -}}
# `boneage jobs submit` puts a ConfigMap of the Job's own in this one's place.
- name: config
  configMap: {name: {{ include "common.objectName" . }}}
- name: data
  {{- if .values.data.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .values.data.existingClaim }}, readOnly: true}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: work
  persistentVolumeClaim:
    claimName: {{ .values.work.existingClaim | default (include "common.objectName" (dict "root" .root "name" "work")) }}
- name: tmp
  emptyDir: {}
{{- if and (include "training.opensStore" .) (not .values.store.url) }}
- name: store
  persistentVolumeClaim:
    claimName: {{ .values.store.existingClaim | default (include "common.objectName" (dict "root" .root "name" "store")) }}
    readOnly: {{ not (has "write-store" .spec.roles) }}
{{- end }}
{{- if and (has "sign" .spec.roles) .values.signing.existingSecret }}
- name: signing
  secret: {secretName: {{ .values.signing.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- with .spec.sharedMemory }}
- name: shared-memory
  emptyDir: {medium: Memory, sizeLimit: {{ . }}}
{{- end }}
{{- with .spec.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Not empty where several processes train together. Takes spec. */}}
{{- define "training.together" -}}
{{- if gt (mul (int .spec.nodes) (int .spec.processesPerNode)) 1 -}}yes{{- end -}}
{{- end -}}

{{- define "training.command" -}}
{{- $command := list "python" "-m" (printf "training.jobs.%s" .spec.module) "--config" "/etc/boneage/job/config.yaml" -}}
{{- if include "training.together" . -}}
{{- $options := list "--nodes" (.spec.nodes | toString) "--processes" (.spec.processesPerNode | toString) -}}
{{- if gt (int .spec.nodes) 1 -}}
{{- $options = concat $options (list "--node" "$(JOB_COMPLETION_INDEX)" "--first-node" (printf "$(JOB_NAME)-0.%s" (include "common.objectName" .))) -}}
{{- end -}}
{{- $command = concat (list "python" "-m" "training.jobs.together") $options (list .spec.module "--config" "/etc/boneage/job/config.yaml") -}}
{{- end -}}
{{- toJson $command -}}
{{- end -}}

{{/* Labels of a Job and its pods beside those of every object. */}}
{{- define "training.labels" -}}
boneage/role: job
{{- if gt (int .spec.nodes) 1 }}
boneage/nodes: several
{{- end }}
{{- with .spec.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "training.job" -}}
backoffLimit: {{ .spec.backoffLimit }}
{{- with .spec.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ . }}
{{- end }}
ttlSecondsAfterFinished: {{ .spec.ttlSecondsAfterFinished }}
{{- if .values.kueue.queue }}
# Kueue starts it.
suspend: true
{{- end }}
{{- if gt (int .spec.nodes) 1 }}
completionMode: Indexed
completions: {{ .spec.nodes }}
parallelism: {{ .spec.nodes }}
{{- end }}
# Two pods must never write the same run: the next one starts when the one before has ended, not when it is told to.
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # A wrong configuration, and a store that refuses, are no better the next time.
    - action: FailJob
      onExitCodes: {containerName: job, operator: In, values: [64, 74]}
    # A node that is drained, lost or needed by others is not the job's fault.
    - action: Ignore
      onPodConditions:
        - {type: DisruptionTarget, status: "True"}
template:
  metadata:
    labels:
      {{- include "common.labels" . | nindent 6 }}
      {{- include "training.labels" . | nindent 6 }}
      {{- with .spec.podLabels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .spec.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- $account := include "common.objectName" (dict "root" .root "name" "job") }}
    {{- include "common.pod" (merge (dict "account" $account) .) | nindent 4 }}
    {{- include "common.tolerations" (dict "spec" .spec "seconds" .spec.nodeLossSeconds) | nindent 4 }}
    {{- if gt (int .spec.nodes) 1 }}
    subdomain: {{ include "common.objectName" . }}
    topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        matchLabelKeys: [batch.kubernetes.io/job-name]
        labelSelector:
          matchLabels:
            {{- include "common.selectorLabels" . | nindent 12 }}
    {{- end }}
    restartPolicy: Never
    # The first process of a container does not hear SIGTERM until it asks to; so the job is not the first.
    shareProcessNamespace: true
    terminationGracePeriodSeconds: {{ .spec.terminationGracePeriodSeconds }}
    containers:
      - name: job
        {{- include "common.container" (dict "root" .root "image" .spec.image) | nindent 8 }}
        command: {{ include "training.command" . }}
        env:
          {{- include "common.env" (include "training.environment" .) | nindent 10 }}
        resources:
          {{- toYaml .spec.resources | nindent 10 }}
        volumeMounts:
          {{- include "training.mounts" . | nindent 10 }}
    volumes:
      {{- include "training.volumes" . | nindent 6 }}
{{- end -}}
