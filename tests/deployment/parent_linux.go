package deployment

import "syscall"

// endWithParent makes a daemon end with the test that started it, even when
// that is killed.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
