//go:build tools

package tools

// The golden files of every built-in kind are in this module's testdata.
import _ "k8s.io/api/core/v1"
