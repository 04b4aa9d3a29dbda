// Command suite runs the tests of every module of the workspace, and builds and
// vets each module without the workspace, where a missing requirement shows.
// It prints what failed, and closes with the counts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// outside is the module with tests that is not in the workspace.
const outside = "deploy"

// errStopped is what ends a suite that was interrupted.
var errStopped = errors.New("stopped")

func run(ctx context.Context, args []string) (bool, error) {
	flags := flag.NewFlagSet("suite", flag.ContinueOnError)
	race := flags.Bool("race", false, "build tests with the race detector")
	pattern := flags.String("run", "", "run only the tests that match")
	alone := flags.Bool("alone", true, "also build and vet each module without the workspace")
	timeout := flags.Duration("timeout", 15*time.Minute, "time for the tests of one package")
	logs := flags.String("logs", ".logs", "directory for the full output")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	modules, err := workspace(ctx)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(*logs, 0o755); err != nil {
		return false, err
	}
	sum := newSummary(os.Stdout)
	test := []string{"test", "-json", "-timeout", timeout.String()}
	if *race {
		test = append(test, "-race")
	}
	if *pattern != "" {
		test = append(test, "-run", *pattern)
	}
	// Scenarios mostly wait, so more of them fit side by side than there are CPUs.
	test = append(test, "-parallel", strconv.Itoa(4*runtime.NumCPU()))
	packages := flags.Args()
	if len(packages) == 0 {
		for _, m := range modules {
			packages = append(packages, "./"+m+"/...")
		}
	}
	if err := sum.tests(ctx, append(test, packages...), filepath.Join(*logs, "test.json")); err != nil {
		return false, err
	}
	if flags.NArg() == 0 {
		if err := sum.tests(ctx, append(append([]string{"-C", outside}, test...), "./..."), filepath.Join(*logs, "test-"+outside+".json"), "GOWORK=off"); err != nil {
			return false, err
		}
	}
	if *alone && flags.NArg() == 0 && *pattern == "" {
		for _, m := range modules {
			sum.alone(ctx, m, filepath.Join(*logs, "alone-"+m+".log"))
		}
	}
	if ctx.Err() != nil {
		return false, errStopped
	}
	return sum.close(), nil
}

// workspace returns the directories of go.work, relative to the current one.
func workspace(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	var modules []string
	for dir := range strings.Lines(string(out)) {
		rel, err := filepath.Rel(root, strings.TrimSpace(dir))
		if err != nil || strings.HasPrefix(rel, "..") {
			return nil, fmt.Errorf("run this at the top of the repository: %s is not below %s", strings.TrimSpace(dir), root)
		}
		modules = append(modules, rel)
	}
	return modules, nil
}

// tests runs go test and reads its events, keeping all of them in a file.
func (s *summary) tests(ctx context.Context, args []string, logName string, environ ...string) error {
	log, err := os.Create(logName)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), environ...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := s.read(io.TeeReader(out, log))
	waitErr := cmd.Wait()
	if readErr != nil {
		return fmt.Errorf("read test events: %w", readErr)
	}
	if waitErr != nil && s.failed == 0 {
		// go test failed without naming a test: a bad flag, or no packages.
		s.fail("go "+strings.Join(args, " "), waitErr.Error()+", see "+logName)
	}
	return nil
}

// alone builds and vets one module with GOWORK=off.
func (s *summary) alone(ctx context.Context, module, logName string) {
	name := module + " without the workspace"
	cmd := exec.CommandContext(ctx, "go", "vet", "./...") // vet compiles tests too
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if writeErr := os.WriteFile(logName, out, 0o644); writeErr != nil {
		s.fail(name, writeErr.Error())
		return
	}
	if err != nil {
		s.fail(name, tail(string(out), 30))
		return
	}
	s.passed++
}
