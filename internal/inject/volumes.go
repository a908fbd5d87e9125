package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TokenAudience is what the routers' tokens are bound to: they are worth nothing anywhere else.
const TokenAudience = "pool.dspex.dev"

// tokenSeconds is the lifetime of a router's token; the kubelet renews it at four fifths.
const tokenSeconds = 3600

// CAKey is the key of the CA bundle in the ConfigMap that CAConfigMap names.
const CAKey = "ca.crt"

// CAConfigMap is the name of the ConfigMap, in the pool's namespace, with the CA bundle that routers trust.
func CAConfigMap(pool string) string { return pool + "-workerpool-ca" }

// Where things are inside the containers.
const (
	runDir      = "/run/workerpool"
	appDir      = runDir + "/app"
	slotsDir    = runDir + "/slots" // in the router: a folder for each slot
	slotDir     = runDir + "/slot"  // in a slot: its own folder of slotsDir
	stateDir    = runDir + "/state"
	identityDir = runDir + "/identity"
	binDir      = "/opt/workerpool"
	tmpDir      = "/tmp"
	// defaultTokenDir is where Kubernetes mounts the service account's own token, unless a mount is there already.
	defaultTokenDir = "/var/run/secrets/kubernetes.io/serviceaccount"

	// AppSocket is the router's socket as the application sees it.
	AppSocket  = appDir + "/pool.sock"
	slotSocket = slotDir + "/pool.sock"
)

const volumePrefix = "workerpool-"

// The volumes.
const (
	binVolume      = volumePrefix + "bin"      // poold and poolworker; read-only after install
	appVolume      = volumePrefix + "app"      // the router's socket; read-only in the application
	slotsVolume    = volumePrefix + "slots"    // the slots' sockets; a slot sees its own folder only
	stateVolume    = volumePrefix + "state"    // the router's store; in the router only
	tmpVolume      = volumePrefix + "tmp-"     // and the slot's name: its /tmp, as its root is read-only
	noTokenVolume  = volumePrefix + "no-token" // stays empty; covers defaultTokenDir
	identityVolume = volumePrefix + "identity" // token and CA bundle; in the router only
)

// emptyDirs that the pool's own programs alone write to, with their limits. A pod that outgrows one is evicted, so they
// are several times what these programs let themselves have. User code writes to the slots' volumes: see tmp.
var emptyDirs = []struct{ name, limit string }{
	{binVolume, "128Mi"},
	{appVolume, "1Mi"},
	{stateVolume, "256Mi"},
	{noTokenVolume, "1Mi"},
}

// slotNames in their order.
var slotNames = []string{"a", "b"}

// volumes of the sidecars.
func volumes(pool string, t tmp) []corev1.Volume {
	var out []corev1.Volume
	for _, d := range emptyDirs {
		out = append(out, emptyDir(d.name, resource.MustParse(d.limit)))
	}
	out = append(out, emptyDir(slotsVolume, *t.backstop(int64(len(slotNames)))))
	for _, slot := range slotNames {
		out = append(out, t.volume(tmpVolume+slot))
	}
	return append(out, identity(pool))
}

func emptyDir(name string, limit resource.Quantity) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}
}

// identity is what the router proves itself with and what it trusts. The bundle is optional, because the pod may be
// created before the pool's first visit by the operator; the kubelet brings it in later.
func identity(pool string) corev1.Volume {
	return corev1.Volume{
		Name: identityVolume,
		VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
					Audience:          TokenAudience,
					ExpirationSeconds: new(int64(tokenSeconds)),
					Path:              "token",
				}},
				{ConfigMap: &corev1.ConfigMapProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: CAConfigMap(pool)},
					Items:                []corev1.KeyToPath{{Key: CAKey, Path: CAKey}},
					Optional:             new(true),
				}},
			},
		}},
	}
}

// noToken keeps the service account's own token out of a sidecar: it would reach user code and act as the application.
func noToken() corev1.VolumeMount {
	return corev1.VolumeMount{Name: noTokenVolume, MountPath: defaultTokenDir, ReadOnly: true}
}

// localVolumes are the names that the cluster autoscaler has to know: nothing in them is worth keeping a node for.
func localVolumes(added []corev1.Volume) []string {
	var names []string
	for _, v := range added {
		if v.EmptyDir != nil {
			names = append(names, v.Name)
		}
	}
	return names
}
