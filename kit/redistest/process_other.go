//go:build !linux

package redistest

import "syscall"

// endWithParent has no counterpart outside Linux: there the clean-up of the test
// has to do.
func endWithParent() *syscall.SysProcAttr { return nil }
