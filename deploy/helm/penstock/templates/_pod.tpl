{{- /* What a program that only serves and calls needs of its pod: nothing. */}}
{{- define "penstock.podSecurity" -}}
automountServiceAccountToken: false
# Otherwise every Service of the namespace would stand in the environment.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  # Mounted files are readable for this group.
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "penstock.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- /* Where pods run: (dict "root" $ "component" … "values" …). */}}
{{- define "penstock.scheduling" -}}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "penstock.selector" $ | nindent 8 }}
  {{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- end }}

{{- /*
A container's variables: (dict "root" $ "keys" (keys of the Secret) "settings" (names and values)). Numbers of values come as
floats, which would be written as 1e+09.
*/}}
{{- define "penstock.variables" -}}
{{- range .keys }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $.root.Values.secret.name }}
      key: {{ . }}
{{- end }}
{{- range $name, $key := .root.Values.secret.files }}
- name: {{ $name }}
  value: /etc/penstock/secret/{{ $key }}
{{- end }}
{{- if .root.Values.authorities.bundle }}
- name: SSL_CERT_FILE
  value: /etc/penstock/authorities/{{ .root.Values.authorities.bundle }}
{{- end }}
{{- range $name, $value := .settings }}
- name: {{ $name }}
  value: {{ (kindIs "float64" $value | ternary (printf "%.0f" $value) (toString $value)) | quote }}
{{- end }}
{{- end }}

{{- define "penstock.volumeMounts" -}}
{{- if .Values.secret.files }}
- name: secret
  mountPath: /etc/penstock/secret
  readOnly: true
{{- end }}
{{- if .Values.authorities.configMap }}
- name: authorities
  mountPath: /etc/penstock/authorities
  readOnly: true
{{- end }}
{{- end }}

{{- define "penstock.volumes" -}}
{{- if .Values.secret.files }}
- name: secret
  secret:
    secretName: {{ .Values.secret.name }}
    defaultMode: 0440
    items:
      {{- range $name, $key := .Values.secret.files }}
      - { key: {{ $key }}, path: {{ $key }} }
      {{- end }}
{{- end }}
{{- if .Values.authorities.configMap }}
- name: authorities
  configMap:
    name: {{ .Values.authorities.configMap }}
{{- end }}
{{- end }}

{{- define "penstock.probes" -}}
# Three looks, so that a pod stays while a NATS cluster elects a leader.
readinessProbe:
  httpGet: { path: /readyz, port: operations }
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 3
# Served by a thread of its own: no load keeps it from answering. 503 says that the service itself has stood still for two
# minutes.
livenessProbe:
  httpGet: { path: /healthz, port: operations }
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{- /* Whole seconds, rounded up, of times like 25s, 1m30s and 500ms. */}}
{{- define "penstock.seconds" -}}
{{- $sum := 0 }}
{{- range . }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 }}
{{- $number := regexFind "[0-9]+" . | int }}
{{- $unit := regexFind "[a-z]+" . }}
{{- $sum = add $sum (mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit)) }}
{{- end }}
{{- end }}
{{- div (add $sum 999) 1000 }}
{{- end }}
