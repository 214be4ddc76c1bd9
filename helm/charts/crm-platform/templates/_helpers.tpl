{{/* The environment's facts; every template begins with it, so that a chart without them says so first. */}}
{{- define "crm.platform" -}}
{{- if not .Values.platform.environment -}}
{{- fail "platform.environment is not set: give the environment's values, as -f environments/home.yaml" -}}
{{- end -}}
{{- if ne .Release.Namespace .Values.platform.namespace -}}
{{- fail (printf "environment %s belongs into namespace %s, and this release is of namespace %s: give --namespace %s" .Values.platform.environment .Values.platform.namespace .Release.Namespace .Values.platform.namespace) -}}
{{- end -}}
{{- end }}

{{/* Labels of an object: (dict "root" $ "name" name "service" service); without a service it is nobody's own. */}}
{{- define "crm.labels" -}}
{{ toYaml .root.Values.platform.labels }}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- with .service }}
{{ $.root.Values.platform.serviceLabel }}: {{ . }}
{{- end }}
{{- end }}

{{/* What set-up needs is there before it: a hook of its own, replaced with each. */}}
{{- define "crm.beforeSetup" -}}
helm.sh/hook: pre-install,pre-upgrade,pre-rollback
helm.sh/hook-weight: "-10"
helm.sh/hook-delete-policy: before-hook-creation
{{- end }}

{{/* Services that only set-up runs as: their objects are such hooks. */}}
{{- define "crm.setupServices" -}}
{{- range .Values.platform.setup }}{{ (index $.Values.platform.jobs .).service }} {{ end -}}
{{- end }}

{{/* A pod of a job: (dict "root" $ "job" name "options" list "runId" id "scenario" text "name" name "resources" map
     "priority" class "restart" policy "probes" map). */}}
{{- define "crm.pod" -}}
{{- $platform := .root.Values.platform }}
{{- $job := index $platform.jobs .job }}
{{- $service := index $platform.services $job.service }}
metadata:
  labels:
    {{- include "crm.labels" (dict "root" .root "name" .name "service" $job.service) | nindent 4 }}
  annotations:
    # A pod reads its settings when it starts: a change of them is a new pod.
    crm.platform/settings: {{ list $service $platform.topology .scenario | toJson | sha256sum | trunc 16 }}
spec:
  serviceAccountName: {{ $service.account }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  priorityClassName: {{ .priority }}
  restartPolicy: {{ .restart }}
  terminationGracePeriodSeconds: 90
  securityContext:
    {{- toYaml $platform.podSecurityContext | nindent 4 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .job }}
      image: {{ $platform.image }}
      imagePullPolicy: {{ $platform.imagePullPolicy }}
      args:
        {{- toYaml $job.command | nindent 8 }}
        {{- with .runId }}
        - --run-id
        - {{ . | quote }}
        {{- end }}
        {{- if .scenario }}
        - --scenario
        - /etc/crm/scenario/scenario.yaml
        {{- end }}
        {{- range .options }}
        - {{ . | quote }}
        {{- end }}
      envFrom:
        - configMapRef:
            name: {{ $service.account }}
      {{- with $service.env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .probes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- toYaml $platform.securityContext | nindent 8 }}
      volumeMounts:
        {{- toYaml $service.volumeMounts | nindent 8 }}
        {{- if .scenario }}
        - name: scenario
          mountPath: /etc/crm/scenario
          readOnly: true
        {{- end }}
  volumes:
    {{- toYaml $service.volumes | nindent 4 }}
    {{- if .scenario }}
    - name: scenario
      configMap:
        name: crm-scenario-{{ .name }}
    {{- end }}
{{- end }}

{{/* A scenario that a value holds: (dict "root" $ "name" name "scenario" text). */}}
{{- define "crm.scenario" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: crm-scenario-{{ .name }}
  labels:
    {{- include "crm.labels" (dict "root" .root "name" .name) | nindent 4 }}
data:
  scenario.yaml: |
    {{- .scenario | nindent 4 }}
{{- end }}
