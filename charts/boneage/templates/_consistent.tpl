{{/* Values that contradict each other, said before anything is made. */}}
{{- define "boneage.consistent" -}}
{{- $wrong := list -}}
{{- with .Values -}}
{{- if and .store.url (not (hasPrefix "s3://" .store.url)) -}}
{{- $wrong = append $wrong "store.url is s3://BUCKET/PREFIX; a store on a volume has store.existingClaim, or neither" -}}
{{- end -}}
{{- if and .store.url .store.existingClaim -}}
{{- $wrong = append $wrong "store.url and store.existingClaim name two stores; leave one of them empty" -}}
{{- end -}}
{{- if and .store.url (ne (empty .store.s3.existingSecret) (empty .store.s3.writerSecret)) -}}
{{- $wrong = append $wrong "store.s3.existingSecret reads and store.s3.writerSecret writes: name both, or neither" -}}
{{- end -}}
{{- if and (eq .tls.mode "certManager") (not .tls.certManager.issuerRef.name) -}}
{{- $wrong = append $wrong "tls.mode=certManager needs tls.certManager.issuerRef.name" -}}
{{- end -}}
{{- if eq .tls.mode "existingSecret" -}}
{{- range $name, $_ := .services -}}
{{- if not (include "boneage.tlsSecret" (dict "root" $ "name" $name)) -}}
{{- $wrong = append $wrong (printf "tls.mode=existingSecret needs tls.existingSecret, or tls.existingSecrets.%s" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .tls.mode "none") .tls.mutual -}}
{{- $wrong = append $wrong "tls.mutual needs tls.mode" -}}
{{- end -}}
{{- if and .trust.existingConfigMap (not .trust.files) -}}
{{- $wrong = append $wrong "trust.existingConfigMap needs trust.files, the names of its keys" -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{- $wrong = append $wrong "ingress.enabled needs ingress.host" -}}
{{- end -}}
{{- if and .gateway.enabled (not .gateway.parentRefs) -}}
{{- $wrong = append $wrong "gateway.enabled needs gateway.parentRefs" -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}
