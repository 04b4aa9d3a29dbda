package redistest

import "syscall"

// endWithParent has the kernel end the server where a test binary is killed
// before its clean-up, as go test does at a timeout.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
