{{- define "perennial.secret" -}}
{{ .Values.existingSecret | default .Release.Name }}
{{- end }}
{{- define "perennial.tritons" -}}
{{- range $number := until (int .Values.triton.replicas) }}{{ if $number }},{{ end }}{{ $.Release.Name }}-triton-{{ $number }}:8001{{ end -}}
{{- end }}
{{- define "perennial.pod" -}}
serviceAccountName: {{ .Release.Name }}
securityContext: {runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- end }}
{{- define "perennial.container" -}}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}
