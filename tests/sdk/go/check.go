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

func equal(what string, found, expected any) {
	checks++
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Errorf("%s: %#v is not %#v", what, found, expected))
	}
}

func matches(what, found, pattern string) {
	checks++
	if !regexp.MustCompile(pattern).MatchString(found) {
		panic(fmt.Errorf("%s: %q does not match %s", what, found, pattern))
	}
}

// A time that the SDK could parse.
func moment(what string, found time.Time) {
	checks++
	if found.Year() <= 2000 {
		panic(fmt.Errorf("%s: %s is no time", what, found))
	}
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
