// A tour of Fanfare with the official Go SDK, unmodified.
//
//	TOUR_URL    the server
//	TOUR_TOKEN  of the organization
//	TOUR_NAME   begins all names of this tour: others run beside it
package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"

	svix "github.com/svix/svix-webhooks/go"
)

var (
	name = os.Getenv("TOUR_NAME")
	hook = startReceiver()
	all  = context.Background()
	api  = connect(os.Getenv("TOUR_TOKEN"))
)

func connect(token string) *svix.Svix {
	server := must(url.Parse(os.Getenv("TOUR_URL")))
	return must(svix.New(token, &svix.SvixOptions{ServerUrl: server}))
}

func verifies(secret string, one delivery, body []byte) bool {
	return must(svix.NewWebhook(secret)).Verify(body, one.header) == nil
}

// Without the SDK, for what it does not know.
func patchPlainly(path, body string) {
	request := must(http.NewRequest("PATCH", os.Getenv("TOUR_URL")+path, bytes.NewBufferString(body)))
	request.Header.Set("authorization", "Bearer "+os.Getenv("TOUR_TOKEN"))
	request.Header.Set("content-type", "application/json")
	answer := must(http.DefaultClient.Do(request))
	done(answer.Body.Close())
	if answer.StatusCode != 200 {
		panic(fmt.Errorf("%s: %s", path, answer.Status))
	}
}

func main() {
	defer func() {
		if wrong := recover(); wrong != nil {
			fmt.Fprintf(os.Stderr, "svix %s: %v\n", svix.Version, wrong)
			os.Exit(1)
		}
	}()
	application := applications()
	app := at(application.Uid)
	pages(application)
	eventType := eventTypes()
	imported := imports()
	endpoint := endpoints(app, eventType)
	told, toldSecret := operational()
	message, secret := messages(app, endpoint, eventType)
	reads(app, message)
	attempts(app, endpoint, message)
	resend(app, endpoint, message)
	example(app, endpoint, imported, secret)
	precheck(app, eventType)
	failed := again(app, endpoint, eventType, message, toldSecret)
	statistics(app, eventType)
	rotation(app, endpoint, eventType, secret)
	tokens(app)
	erases(app, endpoint, message, failed)
	ends(app, endpoint, told)
	fmt.Printf("svix %s: %d checks\n", svix.Version, checks)
}
