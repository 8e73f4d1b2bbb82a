{{/*
NetworkPolicies from arrows (`from`, `to`, `port`, `why`; see boneage's arrows.yaml). Takes root, arrows (the parsed
file), components (those that there are), peers (from values, for the ends outside of the chart), and where needed
selectors (the labels of a component's pods, where they are others) and annotations (of a component's policy).
*/}}

{{/* The members of an end: those of a group, or itself; only those that there are. As a JSON list. */}}
{{- define "common.members" -}}
{{- $members := list -}}
{{- range (index .arrows.groups .end | default (list .end)) -}}
{{- if has . $.present -}}{{- $members = append $members . -}}{{- end -}}
{{- end -}}
{{- toJson $members -}}
{{- end -}}

{{- define "common.policySelector" -}}
{{- with index (.selectors | default dict) .name -}}
{{ toYaml . }}
{{- else -}}
{{ include "common.selectorLabels" . }}
{{- end -}}
{{- end -}}

{{/* The peers of an end of an arrow: pods of this instance, or what the values say is there. Empty: everybody. */}}
{{- define "common.peers" -}}
{{- if hasKey .peers .end -}}
{{- toYaml (index .peers .end "peers") -}}
{{- else -}}
- podSelector:
    matchLabels:
      {{- include "common.policySelector" (dict "root" .root "name" .end "selectors" .selectors) | nindent 6 }}
{{- end -}}
{{- end -}}

{{- define "common.policies" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" (dict "root" .root "name" "deny") | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "common.selectorLabels" (dict "root" .root) | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- $present := concat .components (keys .peers) -}}
{{- range $component := .components }}
{{- $ingress := list }}{{- $egress := list }}
{{- range $arrow := $.arrows.arrows }}
{{- $from := include "common.members" (dict "arrows" $.arrows "end" $arrow.from "present" $present) | fromJsonArray }}
{{- $to := include "common.members" (dict "arrows" $.arrows "end" $arrow.to "present" $present) | fromJsonArray }}
{{- if has $component $to }}
{{- range $from }}{{ $ingress = append $ingress (dict "end" . "arrow" $arrow) }}{{ end }}
{{- end }}
{{- if has $component $from }}
{{- range $to }}{{ $egress = append $egress (dict "end" . "arrow" $arrow) }}{{ end }}
{{- end }}
{{- end }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" (dict "root" $.root "name" $component "annotations" (index ($.annotations | default dict) $component)) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "common.policySelector" (dict "root" $.root "name" $component "selectors" $.selectors) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with $ingress }}
  ingress:
    {{- range . }}
    {{- include "common.rule" (dict "root" $.root "peers" $.peers "selectors" $.selectors "end" .end "arrow" .arrow "side" "from") | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $egress }}
  egress:
    {{- range . }}
    {{- include "common.rule" (dict "root" $.root "peers" $.peers "selectors" $.selectors "end" .end "arrow" .arrow "side" "to") | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* One rule, for one end of one arrow; an arrow without a port is for all of them. */}}
{{- define "common.rule" -}}
{{- $ports := list -}}
{{- with .arrow.port -}}{{- $ports = list . -}}{{- end -}}
{{- if and (eq .side "to") (hasKey .peers .end) -}}{{- $ports = index .peers .end "ports" | default $ports -}}{{- end -}}
- {{ .side }}:
    {{- include "common.peers" . | nindent 4 }}
  {{- with $ports }}
  ports:
    {{- range $port := . }}
    {{- range $protocol := $.arrow.protocols | default (list "TCP") }}
    - port: {{ $port | int }}
      protocol: {{ $protocol }}
    {{- end }}
    {{- end }}
  {{- end }}
{{- end -}}
