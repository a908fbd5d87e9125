package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// OperatorUID is the user of the router and of the install container; the operator's image is made for it.
const OperatorUID int64 = 65532

// slotUser is whom a slot runs as: user code with the user's rights, never root.
type slotUser struct {
	uid, gid *int64 // nil: the image's own USER, which must be numeric
	warnings []string
}

// chooseSlotUser takes the application's user where the pod says one: its first container's, else the pod's.
func chooseSlotUser(spec *corev1.PodSpec) slotUser {
	var u slotUser
	if sc := spec.SecurityContext; sc != nil {
		u.uid, u.gid = sc.RunAsUser, sc.RunAsGroup
	}
	if sc := spec.Containers[0].SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			u.uid = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			u.gid = sc.RunAsGroup
		}
	}
	if u.uid != nil && *u.uid == 0 {
		u.uid, u.gid = new(OperatorUID), new(OperatorUID)
		u.warnings = []string{fmt.Sprintf("the application runs as root, but workers never do: they run as user %d; set runAsUser for another", OperatorUID)}
	}
	return u
}

func (u slotUser) context() *corev1.SecurityContext {
	sc := restricted()
	sc.RunAsUser, sc.RunAsGroup = u.uid, u.gid
	return sc
}

func operatorUser() *corev1.SecurityContext {
	sc := restricted()
	sc.RunAsUser, sc.RunAsGroup = new(OperatorUID), new(OperatorUID)
	return sc
}

// restricted satisfies Pod Security "restricted", and a read-only root beyond it.
func restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsNonRoot:             new(true),
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Privileged:               new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}
