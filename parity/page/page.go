// Package page prints a parity report as one HTML page that needs nothing else:
// no script, no file, no network. docs/report.md says how to read it. Pages of
// other reports are made of the same style and pictures.
//
// It is a room of its own so that a program that only compares traces does not
// carry a library of charts.
package page

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"

	"ossify/internal/quote"
	"ossify/parity"
)

//go:embed page.html
var markup string

// frame is what all pages begin and end with.
//
//go:embed frame.html
var frame string

//go:embed page.css
var style string

// Mark begins every page: it tells our files from others'.
const Mark = "<!DOCTYPE html>\n<!-- ossify report 1 -->\n"

// Write prints the report. name says in a few words of what it is; it and all
// that the report holds may come from strangers.
//
// The same report gives the same bytes.
func Write(w io.Writer, name string, r *parity.Report) error {
	v, err := newView(name, r)
	if err != nil {
		return err
	}
	return Execute(w, "verify", markup, v)
}

// Execute prints a page of a template, which may use plain for text from strangers
// and count for numbers. It begins with [Mark]. The page of every command has the
// templates head, of Verdict, Class, Name, Headline and Lead, and provenance, of From.
func Execute(w io.Writer, command, markup string, v any) error {
	t := template.New("page").Funcs(template.FuncMap{
		"command": func() string { return command },
		"style":   func() template.CSS { return template.CSS(style) },
		"plain":   quote.Plain,
		"count":   Count,
	})
	for _, text := range []string{frame, markup} {
		if _, err := t.Parse(text); err != nil {
			return err
		}
	}
	var b bytes.Buffer // all or nothing
	b.WriteString(Mark)
	if err := t.Execute(&b, v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}
