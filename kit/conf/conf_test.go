package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type config struct {
	REST struct {
		Listen string `yaml:"listen"`
	} `yaml:"rest"`
	SIP struct {
		Listen []string      `yaml:"listen"`
		Wait   time.Duration `yaml:"wait"`
	} `yaml:"sip"`
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "callmesh.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheEnvironmentWinsOverTheFileOverTheDefaults(t *testing.T) {
	var defaults config
	defaults.REST.Listen = "default"
	defaults.SIP.Wait = time.Second
	path := file(t, "rest: {listen: file}\nsip: {listen: [a]}\n")
	cfg, err := Load(path, []string{"CALLMESH_REST_LISTEN=env", "CALLMESH_SIP_LISTEN=[b, c]", "PATH=x"}, defaults)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.REST.Listen != "env" || strings.Join(cfg.SIP.Listen, " ") != "b c" || cfg.SIP.Wait != time.Second {
		t.Errorf("%+v", cfg)
	}
}

func TestErrorsNameTheirPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		env  []string
		want []string
	}{
		"unknown key":  {text: "rest:\n  lisen: x\n", want: []string{"callmesh.yaml", "line 2", `unknown key "lisen"`}},
		"wrong type":   {text: "sip:\n  wait: soon\n", want: []string{"line 2", "soon"}},
		"bad variable": {env: []string{"CALLMESH_SIP_WAIT=soon"}, want: []string{"CALLMESH_SIP_WAIT", "soon"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(file(t, tc.text), tc.env, config{})
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("err %v lacks %q", err, want)
				}
			}
		})
	}
	if _, err := Load("/does/not/exist.yaml", nil, config{}); err == nil || !strings.Contains(err.Error(), "/does/not/exist.yaml") {
		t.Errorf("err %v", err)
	}
}
