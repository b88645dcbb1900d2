package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"time"

	svix "github.com/svix/svix-webhooks/go"
)

// The first thing that is wrong ends the tour.
var checks int

func must[T any](value T, err error) T {
	done(err)
	return value
}

func done(err error) {
	if err != nil {
		panic(err)
	}
}

func pointer[T any](value T) *T {
	return &value
}

// What a pointer points to; what is not there is nothing of its type.
func at[T any](value *T) T {
	var none T
	if value == nil {
		return none
	}
	return *value
}

// As JSON has it, but for some fields.
func shown(value any, except ...string) map[string]any {
	var fields map[string]any
	done(json.Unmarshal(must(json.Marshal(value)), &fields))
	for _, field := range except {
		delete(fields, field)
	}
	return fields
}

// Of objects: each of their fields.
func equal(what string, found, expected any) {
	checks++
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Errorf("%s: %s is not %s", what, text(found), text(expected)))
	}
}

func text(value any) string {
	written, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprintf("%#v", value)
	}
	return string(written)
}

func matches(what, found, pattern string) {
	checks++
	if !regexp.MustCompile(pattern).MatchString(found) {
		panic(fmt.Errorf("%s: %q does not match %s", what, found, pattern))
	}
}

func between(what string, found, least, most int64) {
	checks++
	if found < least || found > most {
		panic(fmt.Errorf("%s: %d is not %d to %d", what, found, least, most))
	}
}

// A time that the SDK could parse.
func moment(what string, found time.Time) {
	checks++
	if found.Year() <= 2000 {
		panic(fmt.Errorf("%s: %s is no time", what, found))
	}
}

// What a list says beside its items.
type page struct {
	done         bool
	iterator     *string
	prevIterator *string
}

// A list that ends with this page. Its iterators are the ids of its first and last item.
func (p page) isLast(what, first, last string) {
	equal(what+": done", p.done, true)
	equal(what+": iterator", at(p.iterator), last)
	equal(what+": prevIterator", at(p.prevIterator), "-"+first)
}

// The same of one whose iterators begin so.
func (p page) isLastOf(what, prefix string) {
	equal(what+": done", p.done, true)
	matches(what+": iterator", at(p.iterator), "^"+prefix)
	matches(what+": prevIterator", at(p.prevIterator), "^-"+prefix)
}

// The call must be refused with this status; gives the body of the answer.
func refused(what string, status int, err error) map[string]any {
	checks++
	var refusal *svix.Error
	if !errors.As(err, &refusal) {
		panic(fmt.Errorf("%s: not refused: %v", what, err))
	}
	if refusal.Status() != status {
		panic(fmt.Errorf("%s: not %d but %d: %s", what, status, refusal.Status(), refusal.Body()))
	}
	var body map[string]any
	done(json.Unmarshal(refusal.Body(), &body))
	return body
}

// The same of an error with a code and a text.
func refusedAs(what string, status int, code string, err error) {
	body := refused(what, status, err)
	equal(what+": code", body["code"], code)
	detail, _ := body["detail"].(string)
	matches(what+": detail", detail, `\S`)
}

// The same of wrong fields: the place of the first.
func invalid(what string, place []any, err error) {
	body := refused(what, 422, err)
	details, _ := body["detail"].([]any)
	if len(details) == 0 {
		panic(fmt.Errorf("%s: nothing is named in %v", what, body))
	}
	first, _ := details[0].(map[string]any)
	equal(what+": place", first["loc"], place)
	text, _ := first["msg"].(string)
	matches(what+": text", text, `\S`)
	equal(what+": type", first["type"], "value_error")
}
