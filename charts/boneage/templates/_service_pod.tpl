{{/* Containers and volumes of a service. Takes root, name and spec. */}}
{{- define "boneage.servicePod" -}}
{{- $roles := .spec.roles -}}
{{- $volumes := include "boneage.volumes" (dict "root" .root "name" .name "roles" (append $roles "server")) | fromYaml -}}
{{- $all := list $volumes -}}
{{- if has "model" $roles -}}
{{- $all = append $all (include "boneage.syncVolumes" . | fromYaml) -}}
initContainers:
  {{- include "boneage.sync" . | nindent 2 }}
{{- else if has "release" $roles -}}
{{- with include "boneage.storeReady" . -}}
initContainers:
  {{- . | nindent 2 }}
{{- end -}}
{{- end }}
containers:
  - name: {{ .name }}
    {{- include "common.container" (dict "root" .root "image" .spec.image) | nindent 4 }}
    command: [python, -m, {{ .spec.module | default (printf "services.%s" .name) }}]
    env:
      {{- include "common.env" (include "boneage.environment" .) | nindent 6 }}
    ports:
      - name: grpc
        containerPort: 50051
      - name: http
        containerPort: 9100
    # A service may wait for others for as long as they take, so that only being alive is asked for at first.
    startupProbe:
      httpGet: {path: /livez, port: http}
      periodSeconds: 1
      timeoutSeconds: 5
      failureThreshold: {{ .spec.startupSeconds }}
    livenessProbe:
      httpGet: {path: /livez, port: http}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    # Of several release services one says SERVING, and the health check of who calls finds it: were the others not
    # ready, no rollout of them would ever end.
    readinessProbe:
      httpGet: {path: {{ ternary "/livez" "/readyz" (has "release" $roles) }}, port: http}
      periodSeconds: 2
      timeoutSeconds: 5
      failureThreshold: 3
    {{- with include "boneage.lifecycle" . }}
    {{- . | nindent 4 }}
    {{- end }}
    resources:
      {{- toYaml .spec.resources | nindent 6 }}
    volumeMounts:
      {{- include "boneage.mounts" (dict "volumes" $volumes "extra" .spec.extraVolumeMounts) | nindent 6 }}
volumes:
  {{- include "boneage.podVolumes" (dict "volumes" $all "extra" .spec.extraVolumes) | nindent 2 }}
{{- end -}}

{{/* Kubernetes knows no sleep of no time. */}}
{{- define "boneage.lifecycle" -}}
{{- with int .root.Values.drain.preStopSeconds -}}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end -}}
{{- end -}}

{{/* What must be so before the release service starts: a store that it can write, with a release in it. */}}
{{- define "boneage.storeReady" -}}
{{- $store := dict "root" .root "name" .name "spec" .spec "secret" .root.Values.store.s3.writerSecret "roles" (list "store") -}}
{{- if .root.Values.checks.preflight }}
{{ include "boneage.task" (merge (dict "task" "doctor" "command" (list "boneage" "doctor" "--cluster" "--store-writable")) $store) }}
{{- end }}
{{- if .root.Values.store.seedEmbedded }}
{{ include "boneage.task" (merge (dict "task" "seed" "command" (list "python" "-m" "services.release.seed")) $store) }}
{{- end }}
{{- end -}}
