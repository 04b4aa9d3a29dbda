// Package k8s holds the Kubernetes manifests to their API's schema and to what
// callmesh needs of them.
package k8s

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var daemons = []string{"gateway", "sessiond", "mediad", "recordingd", "ivrd"}

// built is an overlay after kustomize, by kind.
type built struct {
	workloads map[string]workload
	services  map[string]*corev1.Service
	budgets   map[string]*policyv1.PodDisruptionBudget
	configs   map[string]*corev1.ConfigMap
	secrets   map[string]*corev1.Secret
	namespace string
}

// workload is what Deployments and StatefulSets have in common.
type workload struct {
	replicas int32
	labels   map[string]string
	template corev1.PodTemplateSpec
}

// build runs kustomize and decodes each object strictly: an unknown field is an
// error, as it is in kubectl apply --validate=strict.
func build(t *testing.T, overlay string) built {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlay)
	if err != nil {
		t.Fatal(err)
	}
	b := built{
		workloads: map[string]workload{}, services: map[string]*corev1.Service{}, budgets: map[string]*policyv1.PodDisruptionBudget{},
		configs: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{},
	}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		decode := func(into any) {
			if err := yaml.UnmarshalStrict(text, into); err != nil {
				t.Errorf("%s %s: %v", r.GetKind(), r.GetName(), err)
			}
		}
		switch r.GetKind() {
		case "Deployment":
			var d appsv1.Deployment
			decode(&d)
			b.workloads[d.Name] = workload{*d.Spec.Replicas, d.Spec.Selector.MatchLabels, d.Spec.Template}
		case "StatefulSet":
			var s appsv1.StatefulSet
			decode(&s)
			b.workloads[s.Name] = workload{*s.Spec.Replicas, s.Spec.Selector.MatchLabels, s.Spec.Template}
		case "Service":
			b.services[r.GetName()] = new(corev1.Service)
			decode(b.services[r.GetName()])
		case "PodDisruptionBudget":
			b.budgets[r.GetName()] = new(policyv1.PodDisruptionBudget)
			decode(b.budgets[r.GetName()])
		case "ConfigMap":
			b.configs[r.GetName()] = new(corev1.ConfigMap)
			decode(b.configs[r.GetName()])
		case "Secret":
			b.secrets[r.GetName()] = new(corev1.Secret)
			decode(b.secrets[r.GetName()])
		case "Namespace":
			b.namespace = r.GetName()
			decode(new(corev1.Namespace))
		default:
			t.Errorf("kind %s has no test", r.GetKind())
		}
	}
	return b
}

func TestOverlays(t *testing.T) {
	for _, overlay := range []string{"dev", "prod"} {
		t.Run(overlay, func(t *testing.T) {
			b := build(t, "overlays/"+overlay)
			for _, d := range daemons {
				w, ok := b.workloads[d]
				if !ok {
					t.Fatalf("no workload %s", d)
				}
				b.checkDaemon(t, d, w)
			}
			for name, w := range b.workloads {
				checkPod(t, name, w)
			}
			for name, s := range b.services {
				b.checkService(t, name, s)
			}
			if b.namespace == "" {
				t.Error("no namespace")
			}
		})
	}
}

// checkPod holds what every pod must keep, ours or not.
func checkPod(t *testing.T, name string, w workload) {
	t.Helper()
	spec := w.template.Spec
	if spec.SecurityContext == nil || spec.SecurityContext.RunAsNonRoot == nil || !*spec.SecurityContext.RunAsNonRoot {
		t.Errorf("%s may run as root", name)
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Errorf("%s gets a token for the Kubernetes API that it does not need", name)
	}
	for _, c := range spec.Containers {
		if _, tag, ok := strings.Cut(c.Image, ":"); !ok || tag == "" || tag == "latest" {
			t.Errorf("%s: image %q is not pinned", name, c.Image)
		}
		if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") {
			t.Errorf("%s: security context of %s", name, c.Name)
		}
		if c.ReadinessProbe == nil || c.LivenessProbe == nil {
			t.Errorf("%s: %s lacks a probe", name, c.Name)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: %s without requests or a memory limit", name, c.Name)
		}
		if !c.Resources.Limits.Cpu().IsZero() {
			t.Errorf("%s: a CPU limit makes audio stutter", name)
		}
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) && m.Name != "blob" {
				t.Errorf("%s: mount %s has no volume", name, m.Name)
			}
		}
	}
	for k, v := range w.labels {
		if w.template.Labels[k] != v {
			t.Errorf("%s: selector %s=%s does not match its pods", name, k, v)
		}
	}
}

func (b built) checkDaemon(t *testing.T, name string, w workload) {
	t.Helper()
	spec, c := w.template.Spec, w.template.Spec.Containers[0]
	ready := c.ReadinessProbe
	if ready == nil || ready.GRPC == nil || !hasPort(c, intstr.FromInt32(ready.GRPC.Port)) {
		t.Errorf("%s: readiness is not asked by gRPC on one of its ports", name)
	}
	if c.StartupProbe == nil {
		t.Errorf("%s: no startup probe", name)
	}
	if live := c.LivenessProbe; live == nil || live.HTTPGet == nil || !hasPort(c, live.HTTPGet.Port) {
		t.Errorf("%s: liveness names no port of the pod", name)
	}
	budget := b.budgets[name]
	if budget == nil || budget.Spec.Selector.MatchLabels["app.kubernetes.io/name"] != name {
		t.Errorf("%s: no disruption budget", name)
	}
	if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		return e.Name == "CALLMESH_MESH_ADVERTISE" && e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "status.podIP"
	}) {
		t.Errorf("%s does not advertise its pod IP", name)
	}
	for _, e := range c.Env {
		if strings.Contains(e.Name, "SECRET") && (e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil) {
			t.Errorf("%s: %s is not from a Secret", name, e.Name)
		}
	}
	config := b.config(t, name, spec)
	var parsed struct {
		Mesh struct {
			Listen  string
			Targets map[string]string
		}
		Grace string
		Media struct{ Ports string }
	}
	if err := yaml.Unmarshal([]byte(config), &parsed); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for target, at := range parsed.Mesh.Targets {
		service, ok := b.services[target]
		if !ok || service.Spec.ClusterIP != "None" || !strings.HasPrefix(at, "dns:///"+target+":") {
			t.Errorf("%s: target %s is %s, which is no headless Service here", name, target, at)
		}
	}
	// Calls get the daemon's own grace, then some time to close everything.
	if parsed.Grace == "5m" && *spec.TerminationGracePeriodSeconds < 310 {
		t.Errorf("%s: killed after %d s though calls may drain for 5 m", name, *spec.TerminationGracePeriodSeconds)
	}
	if name == "mediad" && parsed.Media.Ports == "" {
		t.Error("mediad has no port range")
	}
}

// config returns the daemon's file from the ConfigMap that the pod mounts.
func (b built) config(t *testing.T, name string, spec corev1.PodSpec) string {
	t.Helper()
	for _, v := range spec.Volumes {
		if v.Name == "config" && v.ConfigMap != nil {
			if m := b.configs[v.ConfigMap.Name]; m != nil && m.Data[name+".yaml"] != "" {
				return m.Data[name+".yaml"]
			}
		}
	}
	t.Fatalf("%s mounts no configuration", name)
	return ""
}

func hasPort(c corev1.Container, port intstr.IntOrString) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
		return p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal
	})
}

// checkService: a Service selects pods, and its ports are ports of theirs.
func (b built) checkService(t *testing.T, name string, s *corev1.Service) {
	t.Helper()
	for _, w := range b.workloads {
		if w.template.Labels["app.kubernetes.io/name"] != s.Spec.Selector["app.kubernetes.io/name"] {
			continue
		}
		for _, p := range s.Spec.Ports {
			c := w.template.Spec.Containers[0]
			i := slices.IndexFunc(c.Ports, func(have corev1.ContainerPort) bool { return have.Name == p.TargetPort.StrVal })
			if i < 0 {
				t.Errorf("service %s: target port %s is not a port of %s", name, p.TargetPort.String(), c.Name)
				continue
			}
			if protocol(c.Ports[i].Protocol) != protocol(p.Protocol) {
				t.Errorf("service %s: port %s changes the protocol", name, p.Name)
			}
		}
		return
	}
	t.Errorf("service %s selects nothing", name)
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// TestProdHasNoSecrets: what is in the repository is no secret.
func TestProdHasNoSecrets(t *testing.T) {
	b := build(t, "overlays/prod")
	if len(b.secrets) != 0 {
		t.Errorf("the prod overlay carries %d Secrets", len(b.secrets))
	}
	for _, d := range []string{"gateway", "sessiond", "mediad", "ivrd"} {
		if b.workloads[d].replicas < 2 {
			t.Errorf("%s: %d replicas", d, b.workloads[d].replicas)
		}
	}
	media := b.workloads["mediad"].template.Spec
	if !media.HostNetwork || media.Affinity == nil || media.Affinity.PodAntiAffinity == nil || media.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		t.Error("mediad in prod: host network with anti-affinity and cluster DNS")
	}
}
