// Command docscheck holds the documentation to the tree: links, paths and make
// targets that *.md files name must exist.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	wrong, files, err := check(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "docscheck:", err)
		os.Exit(1)
	}
	for _, w := range wrong {
		fmt.Println(w)
	}
	fmt.Printf("%d files, %d wrong\n", files, len(wrong))
	if len(wrong) > 0 || files == 0 {
		os.Exit(1)
	}
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code   = regexp.MustCompile("`([^`\n]+)`")
	target = regexp.MustCompile(`(?m)^([a-zA-Z][\w-]*):`)
	makes  = regexp.MustCompile(`\bmake((?: [a-z]+)+)\b`)
	path   = regexp.MustCompile(`^\.?[\w.-]+(/[\w.<>*{},-]+)+/?$|^[\w-]+/$`)
)

// check returns one line for each name that leads nowhere.
func check(root string) (wrong []string, files int, err error) {
	targets, err := makeTargets(filepath.Join(root, "Makefile"))
	if err != nil {
		return nil, 0, err
	}
	top, err := topLevel(root)
	if err != nil {
		return nil, 0, err
	}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".md" {
			return nil
		}
		files++
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		p := page{root: root, name: name, targets: targets, top: top}
		for i, line := range strings.Split(string(text), "\n") {
			wrong = append(wrong, p.line(i+1, line)...)
		}
		return nil
	})
	return wrong, files, err
}

// page is one file under check; fenced tells whether a code block is open.
type page struct {
	root, name   string
	targets, top map[string]bool
	fenced       bool
}

func (p *page) line(number int, line string) []string {
	var wrong []string
	report := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s:%d: %s", p.name, number, fmt.Sprintf(format, args...)))
	}
	if strings.HasPrefix(strings.TrimSpace(line), "```") {
		p.fenced = !p.fenced
		return nil
	}
	spans := []string{line}
	if !p.fenced {
		spans = nil
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			if to, _, _ := strings.Cut(m[1], "#"); to != "" && !strings.Contains(to, ":") && !p.exists(filepath.Dir(p.name), to) {
				report("link to %s, which is not there", to)
			}
		}
		for _, m := range code.FindAllStringSubmatch(line, -1) {
			spans = append(spans, m[1])
		}
	}
	for _, span := range spans {
		for _, m := range makes.FindAllStringSubmatch(span, -1) {
			for _, t := range strings.Fields(m[1]) {
				if !p.targets[t] {
					report("make %s, which the Makefile does not know", t)
				}
				if p.fenced {
					break // what follows in a shell line may be anything
				}
			}
		}
		for _, word := range strings.Fields(span) {
			if word = strings.TrimRight(strings.TrimPrefix(word, "./"), ",.;:"); p.isPath(word) && !p.exists(p.root, word) {
				report("%s, which is not there", word)
			}
		}
	}
	return wrong
}

// isPath tells whether a word names something below the repository's top: it
// looks like a path, and begins with a name that stands there.
func (p *page) isPath(word string) bool {
	first, _, _ := strings.Cut(word, "/")
	return path.MatchString(word) && p.top[first] && !strings.ContainsAny(word, "<>")
}

func (p *page) exists(from, name string) bool {
	name = strings.TrimSuffix(name, "/...")
	if strings.ContainsAny(name, "*{") {
		pattern := strings.Split(expandFirst(name), " ")
		for _, one := range pattern {
			if found, err := filepath.Glob(filepath.Join(from, one)); err != nil || len(found) == 0 {
				return false
			}
		}
		return true
	}
	_, err := os.Stat(filepath.Join(from, name))
	return err == nil
}

// expandFirst turns a{b,c}d into "abd acd", as a shell does.
func expandFirst(name string) string {
	before, rest, ok := strings.Cut(name, "{")
	if !ok {
		return name
	}
	inside, after, _ := strings.Cut(rest, "}")
	var all []string
	for _, choice := range strings.Split(inside, ",") {
		all = append(all, before+choice+after)
	}
	return strings.Join(all, " ")
}

func makeTargets(name string) (map[string]bool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	targets := make(map[string]bool)
	for _, m := range target.FindAllStringSubmatch(string(text), -1) {
		targets[m[1]] = true
	}
	return targets, nil
}

// made are names at the top that only running something brings about.
var made = []string{".bin", ".assets", ".logs", "data"}

func topLevel(root string) (map[string]bool, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	top := make(map[string]bool)
	for _, e := range entries {
		if e.IsDir() {
			top[e.Name()] = true
		}
	}
	for _, name := range made {
		delete(top, name)
	}
	return top, nil
}
