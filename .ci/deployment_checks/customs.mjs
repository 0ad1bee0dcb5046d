// Validates objects that KEDA, the Prometheus Operator and External Secrets define, by the schemas of their own definitions.
// A list of them comes as JSON; a line goes out for each that is wrong.
import { readFileSync } from "node:fs";

const load = async (name, path) => import(`${process.env.MODELS}/node_modules/@kubernetes-models/${name}/${path}/index.js`);
const { ScaledObject } = await load("keda", "keda.sh/v1alpha1");
const { PodMonitor, PrometheusRule } = await load("prometheus-operator", "monitoring.coreos.com/v1");
const { ExternalSecret } = await load("external-secrets", "external-secrets.io/v1");
const models = { ScaledObject, PodMonitor, PrometheusRule, ExternalSecret };

for (const { from, object } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new models[object.kind](object).validate();
  } catch (error) {
    console.log(`${from}: ${object.kind} ${object.metadata?.name}: ${error.message}`);
  }
}
