package main

import (
	"strings"
	"testing"
)

func summarise(t *testing.T, lines ...string) (*summary, string) {
	t.Helper()
	var out strings.Builder
	s := newSummary(&out)
	if err := s.read(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	return s, out.String()
}

func TestCountsLeaves(t *testing.T) {
	s, out := summarise(t,
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"run","Package":"p","Test":"TestA/one"}`,
		`{"Action":"run","Package":"p","Test":"TestA/two"}`,
		`{"Action":"output","Package":"p","Test":"TestA/two","Output":"    a_test.go:7: wrong\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestA/one"}`,
		`{"Action":"fail","Package":"p","Test":"TestA/two"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"redis: pool.go:770: what a library prints\\n"}`,
		`{"Action":"fail","Package":"p","Test":"TestA"}`,
		`{"Action":"skip","Package":"p","Test":"TestB"}`,
		`{"Action":"fail","Package":"p"}`,
	)
	if s.passed != 1 || s.failed != 1 || len(s.skipped) != 1 {
		t.Errorf("%d passed, %d failed, %d skipped", s.passed, s.failed, len(s.skipped))
	}
	if !strings.Contains(out, "FAILED TestA/two") || !strings.Contains(out, "a_test.go:7: wrong") {
		t.Errorf("output: %s", out)
	}
}

func TestFailuresWithoutATest(t *testing.T) {
	for name, tc := range map[string]struct{ lines, want string }{
		"build": {
			`{"Action":"build-output","ImportPath":"p [p.test]","Output":"x.go:1: oops\n"}` + "\n" +
				`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			"x.go:1: oops",
		},
		"leak": {
			`{"Action":"run","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" +
				`{"Action":"output","Package":"p","Output":"goleak: found\n"}` + "\n" + `{"Action":"fail","Package":"p"}`,
			"goleak: found",
		},
	} {
		s, out := summarise(t, tc.lines)
		if s.failed != 1 || !strings.Contains(out, tc.want) {
			t.Errorf("%s: %d failed: %s", name, s.failed, out)
		}
		if s.close() {
			t.Errorf("%s: closes as good", name)
		}
	}
}

func TestNothingRunIsNoSuccess(t *testing.T) {
	if s, _ := summarise(t); s.close() {
		t.Error("an empty run closes as good")
	}
}
