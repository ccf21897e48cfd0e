{{- define "name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "compose" -}}
{{ .Files.Get "files/docker-compose.yml" }}
{{- end }}

{{- /* The settings in force, and the model's name in them. */ -}}
{{- define "toml" -}}
{{ .Values.config | default (.Files.Get "files/shop.toml") }}
{{- end }}
{{- define "model" -}}
{{ dig "serving" "model_name" "tfrec" (include "toml" . | fromToml) }}
{{- end }}

{{- /* Labels that select the pods of one part: (list . "gateway") */ -}}
{{- define "selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: tfrec
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- /* The same as a selector of pods, in one line. */ -}}
{{- define "matching" -}}
{matchLabels: {{ include "selector" . | fromYaml | toJson }}}
{{- end }}

{{- /* Name and labels of an object: (list . "gateway") */ -}}
{{- define "metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "name" $root }}-{{ index . 1 }}
labels:
  {{- include "selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{- /* What all pods have, without containers and volumes. */ -}}
{{- define "pod" -}}
serviceAccountName: {{ .Values.serviceAccountName }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduling }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "hardened" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* A container of tfrec, without name, args, probes and resources. */ -}}
{{- define "tfrec" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{ include "hardened" . }}
env:
  - {name: HOME, value: /tmp}
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  {{- with .Values.secrets.pseudonym }}
  - {name: TFREC_PSEUDONYM_KEY, valueFrom: {secretKeyRef: {name: {{ . }}, key: pseudonym.key}}}
  {{- end }}
  {{- with .Values.secrets.redis }}
  - {name: REDIS_URL, valueFrom: {secretKeyRef: {name: {{ . }}, key: url}}}
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFromSecret }}
envFrom: [{secretRef: {name: {{ . }}}}]
{{- end }}
volumeMounts:
  - {name: config, mountPath: /etc/tfrec, readOnly: true}
  - {name: run, mountPath: /srv/run}
  {{- if .Values.data.existingClaim }}
  - {name: data, mountPath: /srv/data, readOnly: true}
  {{- else }}
  - {name: run, mountPath: /srv/data, subPath: data, readOnly: true}
  {{- end }}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{- /* The file of settings, and `settings` over it, as words of the command. A value as JSON is one as TOML. */ -}}
{{- define "settings" -}}
- --config
- /etc/tfrec/shop.toml
{{- range $key, $value := .Values.settings }}
- --set
- {{ printf "%s=%s" $key (toJson $value) | squote }}
{{- end }}
{{- end }}

{{- define "volumes" -}}
- name: config
  configMap: {name: {{ include "name" . }}-config}
- name: run
  persistentVolumeClaim: {claimName: {{ .Values.run.existingClaim | default (printf "%s-run" (include "name" .)) }}}
{{- end }}

{{- /* Of the pods of tfrec. */ -}}
{{- define "tfrec-volumes" -}}
{{ include "volumes" . }}
{{- with .Values.data.existingClaim }}
- name: data
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- end }}
