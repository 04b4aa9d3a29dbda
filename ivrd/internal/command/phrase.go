package command

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"time"
)

// Format is the kind of a phrase.
type Format string

// The formats of contract §1.8.2.
const (
	FormatFile      Format = "file"
	FormatURL       Format = "url"
	FormatAWSTTS    Format = "awstts"
	FormatGoogleTTS Format = "googletts"
	FormatRecord    Format = "record"
	FormatEcho      Format = "echo"
)

// Phrase is one thing to play. With a Problem it cannot be played; the other
// fields then say as much as could be read, for the alarm.
type Phrase struct {
	Format   Format `json:"format,omitempty"`
	FileName string `json:"fileName,omitempty"`
	URL      string `json:"url,omitempty"`
	// Keep is cacheTimeToLive; nil when the phrase has none.
	Keep *time.Duration `json:"keep,omitempty"`
	// Refresh asks for the source again even if it is cached.
	Refresh bool `json:"refresh,omitempty"`
	// Problem is why the phrase cannot be played, in the application's words for
	// its fields.
	Problem string `json:"problem,omitempty"`
}

const (
	maxURL = 4096
	day    = 24 * time.Hour
)

// lifetimes are the values of cacheTimeToLive.
func lifetime(name string) (time.Duration, bool) {
	switch name {
	case "NONE":
		return 0, true
	case "HOUR":
		return time.Hour, true
	case "DAY":
		return day, true
	case "WEEK":
		return 7 * day, true
	case "MONTH":
		return 30 * day, true
	}
	return 0, false
}

func (r *reader) phrases(raw json.RawMessage) []Phrase {
	if !given(raw) {
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		r.fail("phrases", "must be an array")
		return nil
	}
	if len(items) > MaxPhrases {
		r.fail("phrases", fmt.Sprintf("has more than %d phrases", MaxPhrases))
		return nil
	}
	phrases := make([]Phrase, len(items))
	for i, item := range items {
		phrases[i] = parsePhrase(item)
	}
	return phrases
}

// parsePhrase reads one phrase with a reader of its own: its errors are its
// Problem.
func parsePhrase(raw json.RawMessage) Phrase {
	var p struct {
		Format   json.RawMessage `json:"format"`
		FileName json.RawMessage `json:"fileName"`
		URL      json.RawMessage `json:"url"`
		Keep     json.RawMessage `json:"cacheTimeToLive"`
		Refresh  json.RawMessage `json:"refreshCache"`
	}
	if err := object(raw, &p); err != nil {
		return Phrase{Problem: "phrase " + err.Error()}
	}
	r := reader{}
	phrase := Phrase{
		Format:   Format(r.text("format", p.Format, 64)),
		FileName: r.text("fileName", p.FileName, maxURL),
		URL:      r.text("url", p.URL, maxURL),
		Refresh:  r.boolean("refreshCache", p.Refresh),
	}
	if name := r.text("cacheTimeToLive", p.Keep, 16); name != "" {
		keep, ok := lifetime(name)
		if !ok {
			r.fail("cacheTimeToLive", "must be NONE, HOUR, DAY, WEEK or MONTH")
		}
		phrase.Keep = &keep
	}
	if r.err != nil {
		phrase.Problem = r.err.Field + " " + r.err.Reason
		return phrase
	}
	phrase.check()
	return phrase
}

func (p *Phrase) check() {
	switch p.Format {
	case FormatFile:
		p.Problem = checkFileName(p.FileName)
	case FormatURL:
		// Contract §1.8.2: fileName is taken as the URL when it is absolute.
		if p.URL == "" && p.FileName != "" {
			p.URL, p.FileName = p.FileName, ""
		}
		p.Problem = checkURL("url", p.URL)
	case FormatAWSTTS, FormatGoogleTTS, FormatRecord, FormatEcho:
		p.Problem = fmt.Sprintf("format %s is not available yet", p.Format)
	case "":
		p.Problem = "format is missing"
	default:
		p.Problem = fmt.Sprintf("format %.32q is unknown", string(p.Format))
	}
}

// fileName is the rule of contract §1.3 for prompt files.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}$`)

func checkFileName(name string) string {
	switch {
	case name == "":
		return "fileName is missing"
	case !fileName.MatchString(name):
		return "fileName must be 1 to 255 letters, digits, dots, dashes and underscores, without a leading dot"
	}
	return ""
}

func checkURL(field, text string) string {
	if text == "" {
		return field + " is missing"
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return field + " is malformed"
	case u.Scheme != "http" && u.Scheme != "https":
		return field + " must begin with http:// or https://"
	case u.Hostname() == "":
		return field + " names no host"
	}
	return ""
}
