{{/* Containers and volumes of Triton. Takes root, name and spec. */}}
{{- define "boneage.tritonPod" -}}
{{- $volumes := include "boneage.volumes" (dict "root" .root "name" .name "roles" (list "triton")) | fromYaml -}}
{{- $resources := deepCopy .spec.resources -}}
{{- with include "boneage.gpus" . -}}
{{- $_ := set $resources "limits" (merge (dict $.spec.gpuResource .) ($resources.limits | default dict)) -}}
{{- end -}}
initContainers:
  {{- include "boneage.sync" . | nindent 2 }}
containers:
  - name: triton
    {{- include "common.container" (dict "root" .root "image" .spec.image) | nindent 4 }}
    command:
      {{- toYaml .spec.command | nindent 6 }}
    args:
      - --model-repository=/var/lib/boneage/repository
      # It starts empty: the release service has it load what the routing needs, and shows the host key for that.
      - --model-control-mode=explicit
      - --disable-auto-complete-config
      # A new version that does not load is the release service's to report, and takes no server away.
      - --strict-readiness=false
      - --allow-http=false
      - --grpc-port=8001
      - --metrics-port=8002
      - --grpc-restricted-protocol=model-repository,shared-memory,trace,logging:admin-key=$(HOST_KEY)
      - --exit-timeout-secs={{ .root.Values.drain.graceSeconds }}
      {{- with .spec.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    env:
      {{- include "common.env" (include "boneage.tritonEnv" .) | nindent 6 }}
    ports:
      - name: grpc
        containerPort: 8001
      - name: metrics
        containerPort: 8002
    startupProbe:
      grpc: {port: 8001}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: {{ max 1 (div .spec.startupSeconds 5) }}
    livenessProbe:
      httpGet: {path: /metrics, port: metrics}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      grpc: {port: 8001}
      periodSeconds: 2
      timeoutSeconds: 5
      failureThreshold: 3
    {{- with include "boneage.lifecycle" . }}
    {{- . | nindent 4 }}
    {{- end }}
    resources:
      {{- toYaml $resources | nindent 6 }}
    volumeMounts:
      {{- include "boneage.mounts" (dict "volumes" $volumes "extra" .spec.extraVolumeMounts) | nindent 6 }}
volumes:
  {{- $all := list $volumes (include "boneage.syncVolumes" . | fromYaml) }}
  {{- include "boneage.podVolumes" (dict "volumes" $all "extra" .spec.extraVolumes) | nindent 2 }}
{{- end -}}

{{- define "boneage.tritonEnv" -}}
- name: HOST_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "boneage.hostKeySecret" . }}
      key: key
- name: HOME
  value: /tmp
{{ include "common.threads" .spec }}
{{- with .spec.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
