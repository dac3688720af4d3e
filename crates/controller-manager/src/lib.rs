//! kube-controller-manager: one folder or file per controller.
