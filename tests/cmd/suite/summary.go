package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// event is one line of go test -json (cmd/test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// summary counts what ran. Only leaves count: a test with subtests is the sum
// of them, unless it failed by itself.
type summary struct {
	out     io.Writer
	begin   time.Time
	passed  int
	failed  int
	skipped []string
	output  map[string]*strings.Builder // by package and test
	builds  map[string]*strings.Builder
	parents map[string]bool
	broken  map[string]bool // packages with a failed test
}

// complaint is a line that a test itself wrote, by Error, Fatal or Log.
var complaint = regexp.MustCompile(`(?m)^    \S+\.go:\d+: `)

func newSummary(out io.Writer) *summary {
	return &summary{
		out: out, begin: time.Now(), output: make(map[string]*strings.Builder), builds: make(map[string]*strings.Builder),
		parents: make(map[string]bool), broken: make(map[string]bool),
	}
}

// maxLine bounds one event; a test that prints more than that in a line is ill.
const maxLine = 4 << 20

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(s.out, lines.Text()) // what go prints before it can speak JSON
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			s.parents[e.Package+" "+e.Test[:i]] = true
		}
	case "output":
		collect(s.output, key, e.Output)
	case "build-output":
		collect(s.builds, e.ImportPath, e.Output)
	case "pass", "skip":
		delete(s.output, key)
		if e.Test == "" || s.parents[key] {
			return
		}
		if e.Action == "skip" {
			s.skipped = append(s.skipped, e.Test+" of "+e.Package)
			return
		}
		s.passed++
	case "fail":
		s.takeFailure(e, key)
	}
}

func (s *summary) takeFailure(e event, key string) {
	text := ""
	if b := s.output[key]; b != nil {
		text = b.String()
	}
	delete(s.output, key)
	switch {
	case e.Test != "":
		s.broken[e.Package] = true
		if s.parents[key] && !complaint.MatchString(text) {
			return // only its subtests failed
		}
		s.fail(fmt.Sprintf("%s (%s, %.1f s)", e.Test, e.Package, e.Elapsed), tail(text, 60))
	case e.FailedBuild != "":
		if b := s.builds[e.FailedBuild]; b != nil {
			text = b.String()
		}
		s.fail(e.Package+" does not build", tail(text, 40))
	case !s.broken[e.Package]:
		s.fail(e.Package, tail(text, 80)) // a panic, a leak found by TestMain, a timeout
	}
}

func collect(into map[string]*strings.Builder, key, text string) {
	if into[key] == nil {
		into[key] = new(strings.Builder)
	}
	if into[key].Len() < 1<<20 {
		into[key].WriteString(text)
	}
}

func (s *summary) fail(name, text string) {
	s.failed++
	fmt.Fprintf(s.out, "FAILED %s\n%s\n", name, indent(text))
}

// close prints the counts and tells whether all is well.
func (s *summary) close() bool {
	for _, name := range s.skipped {
		fmt.Fprintln(s.out, "skipped", name)
	}
	fmt.Fprintf(s.out, "%s; %d skipped\n", time.Since(s.begin).Round(time.Second), len(s.skipped))
	fmt.Fprintf(s.out, "%d passed, %d failed\n", s.passed, s.failed)
	return s.failed == 0 && s.passed > 0
}

// tail returns the last lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = append([]string{fmt.Sprintf("… %d lines before", len(lines)-n)}, lines[len(lines)-n:]...)
	}
	return strings.Join(lines, "\n")
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}
