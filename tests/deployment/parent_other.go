//go:build !linux

package deployment

import "syscall"

// endWithParent does nothing where the kernel cannot do it.
func endWithParent() *syscall.SysProcAttr { return nil }
