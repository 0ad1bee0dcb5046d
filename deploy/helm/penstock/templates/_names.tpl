{{- define "penstock.fullname" -}}
{{- if contains "penstock" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-penstock" (.Release.Name | trunc 31 | trimSuffix "-") }}
{{- end }}
{{- end }}

{{- /* The name of a component's objects: (dict "root" $ "component" "ingest-api"). */}}
{{- define "penstock.name" -}}
{{ include "penstock.fullname" .root }}-{{ .component }}
{{- end }}

{{- /* What a selector goes by; it cannot be changed later. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Of objects that belong to no component. */}}
{{- define "penstock.commonLabels" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* (dict "root" $ "program" "ingest-api" "image" .Values.ingestApi.image) */}}
{{- define "penstock.image" -}}
{{- $repository := printf "%s/%s" .root.Values.image.registry .program -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}
