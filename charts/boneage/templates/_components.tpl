{{/* What there is: components, their values, their addresses. Takes root, and name where it is about one. */}}

{{/* Values of a component, laid upon the defaults. */}}
{{- define "boneage.spec" -}}
{{- if eq .name "triton" -}}
{{- $spec := include "common.overlaid" (dict "base" .root.Values.defaults "over" .root.Values.triton) | fromYaml -}}
{{- if include "boneage.gpus" . -}}
{{- $_ := set $spec "nodeSelector" (merge (dict) $spec.nodeSelector $spec.gpuNodeSelector) -}}
{{- $_ := set $spec "tolerations" (concat $spec.tolerations $spec.gpuTolerations) -}}
{{- end -}}
{{- toYaml $spec -}}
{{- else -}}
{{- include "common.overlaid" (dict "base" .root.Values.defaults "over" (index .root.Values.services .name)) -}}
{{- end -}}
{{- end -}}

{{/* Names of the services with a role, in order, as a JSON list. */}}
{{- define "boneage.withRole" -}}
{{- $names := list -}}
{{- range $name, $service := .root.Values.services -}}
{{- if has $.role $service.roles -}}{{- $names = append $names $name -}}{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "boneage.onTriton" -}}
{{- if eq .root.Values.inference.runtime "triton" }}yes{{ end -}}
{{- end -}}

{{/* Where a component answers: `port`, and `suffix` "-instances" for all its pods, whether ready or not. */}}
{{- define "boneage.address" -}}
{{ include "common.objectName" . }}{{ .suffix }}:{{ .port }}
{{- end -}}

{{/* Names that a component's certificate bears. */}}
{{- define "boneage.names" -}}
{{- $names := list -}}
{{- range $suffix := list "" "-instances" -}}
{{- $name := printf "%s%s" (include "common.objectName" $) $suffix -}}
{{- $inNamespace := printf "%s.%s" $name $.root.Release.Namespace -}}
{{- $names = concat $names (list $name $inNamespace (printf "%s.svc" $inNamespace)) -}}
{{- $names = append $names (printf "%s.svc.%s" $inNamespace $.root.Values.clusterDomain) -}}
{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{- define "boneage.tlsSecret" -}}
{{- $tls := .root.Values.tls -}}
{{- if eq $tls.mode "certManager" -}}
{{ include "common.objectName" . }}-tls
{{- else if eq $tls.mode "existingSecret" -}}
{{ index $tls.existingSecrets .name | default $tls.existingSecret }}
{{- end -}}
{{- end -}}

{{- define "boneage.storeUrl" -}}
{{ .root.Values.store.url | default "/srv/store" }}
{{- end -}}

{{/* The claim of a store on a volume; nothing for one on S3. */}}
{{- define "boneage.storeClaim" -}}
{{- if not .root.Values.store.url -}}
{{ .root.Values.store.existingClaim | default (include "common.objectName" (dict "root" .root "name" "store")) }}
{{- end -}}
{{- end -}}

{{- define "boneage.hostKeySecret" -}}
{{ .root.Values.hostKey.existingSecret | default (include "common.objectName" (dict "root" .root "name" "host-key")) }}
{{- end -}}

{{/* The map of the trusted keys. One that the chart makes is not there yet for what is `early`, a hook before the
installation. Takes root and early. */}}
{{- define "boneage.trustMap" -}}
{{- $own := include "common.objectName" (dict "root" .root "name" "trusted-keys") -}}
{{- $made := and .root.Values.trust.keys (not .early) -}}
{{- .root.Values.trust.existingConfigMap | default (ternary $own "" (not (empty $made))) -}}
{{- end -}}

{{/* Files of the trusted keys, with commas between. */}}
{{- define "boneage.trustFiles" -}}
{{- if include "boneage.trustMap" . -}}
{{- $files := ternary .root.Values.trust.files (keys .root.Values.trust.keys | sortAlpha) (ne .root.Values.trust.existingConfigMap "") -}}
{{- $paths := list -}}
{{- range $files }}{{ $paths = append $paths (printf "/etc/boneage/trusted-keys/%s" .) }}{{ end -}}
{{- join "," $paths -}}
{{- end -}}
{{- end -}}

{{- define "boneage.terminationSeconds" -}}
{{- with .root.Values.drain -}}
{{ add .preStopSeconds .delaySeconds .graceSeconds .marginSeconds }}
{{- end -}}
{{- end -}}

{{- define "boneage.enginesClaim" -}}
{{ .root.Values.triton.engineCache.existingClaim | default (include "common.objectName" (dict "root" .root "name" "engines")) }}
{{- end -}}

{{/* A claim with data, which stays when the chart goes. Takes root, name and claim (its values). */}}
{{- define "boneage.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "common.metadata" (dict "root" .root "name" .name "annotations" (dict "helm.sh/resource-policy" "keep")) | nindent 2 }}
spec:
  accessModes:
    {{- toYaml .claim.accessModes | nindent 4 }}
  {{- with .claim.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .claim.size }}
{{- end -}}

{{/* GPUs of one Triton; nothing for none. Takes root. */}}
{{- define "boneage.gpus" -}}
{{- with .root.Values.triton -}}
{{- $gpus := ternary (ternary 1 0 (eq .flavour "gpu")) .gpus (eq (toString .gpus) "auto") -}}
{{- with int $gpus }}{{ . }}{{ end -}}
{{- end -}}
{{- end -}}
