{{- /*
Why ingest-api may not be changed yet; nothing if it may. Helm changes everything at once, so a release takes two upgrades:
workers first. It compares what runs with what is wanted:
(dict "api" live-Deployment "worker" live-Deployment "apiImage" wanted "workerImage" wanted); either Deployment may be empty.
*/}}
{{- define "penstock.workersFirst" -}}
{{- if and .api .worker }}
{{- $api := (index .api.spec.template.spec.containers 0).image }}
{{- $worker := (index .worker.spec.template.spec.containers 0).image }}
{{- $status := .worker.status | default dict }}
{{- $wanted := int (.worker.spec.replicas | default 0) }}
{{- $tag := regexFind "[^:]+$" $api }}
{{- $first := printf "Upgrade with --set ingestApi.image.tag=%s --wait first, then without it." $tag }}
{{- if contains "@" $api }}
{{- $first = printf "Upgrade with --set ingestApi.image.digest=sha256:%s --wait first, then without it." $tag }}
{{- end }}
{{- if ne $api .apiImage }}
{{- if ne $worker .workerImage }}
{{- printf "ingest-api would be changed to %s beside workers of %s. %s" .apiImage $worker $first }}
{{- else if or
      (lt (int ($status.observedGeneration | default 0)) (int .worker.metadata.generation))
      (lt (int ($status.updatedReplicas | default 0)) $wanted)
      (gt (int ($status.replicas | default 0)) (int ($status.updatedReplicas | default 0)))
      (lt (int ($status.readyReplicas | default 0)) $wanted) }}
{{- printf "The workers' rollout to %s is not done: see kubectl rollout status deployment/%s." $worker .worker.metadata.name }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
