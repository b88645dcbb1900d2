// A tour of Fanfare with the official Go SDK, unmodified.
//
//	TOUR_URL    the server
//	TOUR_TOKEN  of the organization
//	TOUR_NAME   begins all names of this tour: others run beside it
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	svix "github.com/svix/svix-webhooks/go"
	"github.com/svix/svix-webhooks/go/models"
	"github.com/svix/svix-webhooks/go/utils"
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

func applications() string {
	uid := name + "-a"
	wanted := models.ApplicationIn{
		Name:         "Tour",
		Uid:          &uid,
		Metadata:     &map[string]string{"plan": "gold"},
		ThrottleRate: pointer(uint16(900)),
	}
	options := &svix.ApplicationCreateOptions{IdempotencyKey: pointer(name + "-app")}
	made := must(api.Application.Create(all, wanted, options))
	matches("application.id", made.Id, `^app_[0-9A-Za-z]{27}$`)
	equal("application.uid", at(made.Uid), uid)
	equal("application.name", made.Name, "Tour")
	equal("application.metadata", made.Metadata, map[string]string{"plan": "gold"})
	equal("application.throttleRate", at(made.ThrottleRate), uint16(900))
	moment("application.createdAt", made.CreatedAt)
	moment("application.updatedAt", made.UpdatedAt)
	equal("one key is one application", must(api.Application.Create(all, wanted, options)).Id, made.Id)
	_, err := api.Application.Create(all, wanted, nil)
	refusedAs("a uid that is taken", 409, "conflict", err)
	equal("get or create", must(api.Application.GetOrCreate(all, wanted, nil)).Id, made.Id)

	read := must(api.Application.Get(all, uid))
	equal("by uid: id", read.Id, made.Id)
	equal("by uid: uid", at(read.Uid), uid)
	equal("by uid: name", read.Name, "Tour")
	equal("by uid: metadata", read.Metadata, map[string]string{"plan": "gold"})
	equal("by uid: throttleRate", at(read.ThrottleRate), uint16(900))
	equal("by uid: createdAt", read.CreatedAt.Equal(made.CreatedAt), true)
	equal("by id", at(must(api.Application.Get(all, made.Id)).Uid), uid)

	patch := models.ApplicationPatch{Name: pointer("Patched")}
	patch.ThrottleRate = utils.NewNullableFromPtr[uint16](nil)
	patched := must(api.Application.Patch(all, uid, patch))
	equal("patched: name", patched.Name, "Patched")
	equal("patched: uid", at(patched.Uid), uid)
	equal("patched: metadata", patched.Metadata, map[string]string{"plan": "gold"})
	equal("patched: throttleRate", patched.ThrottleRate == nil, true)
	wanted = models.ApplicationIn{Name: "Replaced", Metadata: &map[string]string{"plan": "tin"}}
	replaced := must(api.Application.Update(all, uid, wanted))
	equal("replaced: name", replaced.Name, "Replaced")
	equal("replaced: metadata", replaced.Metadata, map[string]string{"plan": "tin"})
	equal("replaced: id", replaced.Id, made.Id)
	_, err = api.Application.Get(all, name+"-none")
	refusedAs("no such application", 404, "not_found", err)
	_, err = api.Application.Create(all, models.ApplicationIn{}, nil)
	invalid("a name that is missing", []any{"body", "name"}, err)
	return uid
}

func pages(uid string) {
	for _, letter := range []string{"b", "c"} {
		wanted := models.ApplicationIn{Name: "Tour", Uid: pointer(name + "-" + letter)}
		must(api.Application.Create(all, wanted, nil))
	}
	limit := pointer(uint64(2))
	seen, every := []string{}, []*models.ListResponseApplicationOut{}
	var iterator *string
	for {
		options := &svix.ApplicationListOptions{Limit: limit, Iterator: iterator}
		page := must(api.Application.List(all, options))
		equal("list: at most as many as asked for", len(page.Data) <= 2, true)
		equal("list: a page before the last is full", page.Done || len(page.Data) == 2, true)
		every = append(every, page)
		for _, one := range page.Data {
			if strings.HasPrefix(at(one.Uid), name) {
				seen = append(seen, at(one.Uid))
			}
		}
		if page.Done {
			break
		}
		iterator = page.Iterator
		matches("list: iterator", at(iterator), `^app_`)
	}
	equal("list: each once, oldest first", seen, []string{uid, name + "-b", name + "-c"})
	matches("list: prevIterator", at(every[1].PrevIterator), `^-app_`)
	options := &svix.ApplicationListOptions{Limit: limit, Iterator: every[1].PrevIterator}
	back := must(api.Application.List(all, options))
	equal("list: back", []string{back.Data[0].Id, back.Data[1].Id}, []string{every[0].Data[0].Id, every[0].Data[1].Id})
}

func eventTypes() string {
	paid := name + ".paid"
	schemas := map[string]any{"1": map[string]any{"type": "object", "required": []any{"amount"}}}
	wanted := models.EventTypeIn{
		Name:         paid,
		Description:  "Paid",
		Schemas:      &schemas,
		GroupName:    pointer("orders"),
		FeatureFlags: []string{"beta"},
	}
	made := must(api.EventType.Create(all, wanted, nil))
	equal("event type: name", made.Name, paid)
	equal("event type: description", made.Description, "Paid")
	equal("event type: schemas", at(made.Schemas), schemas)
	equal("event type: groupName", at(made.GroupName), "orders")
	equal("event type: featureFlags", made.FeatureFlags, []string{"beta"})
	equal("event type: archived", made.Archived != nil && !*made.Archived, true)
	equal("event type: deprecated", made.Deprecated, false)
	moment("event type: createdAt", made.CreatedAt)
	moment("event type: updatedAt", made.UpdatedAt)
	_, err := api.EventType.Create(all, wanted, nil)
	refusedAs("an event type that exists", 409, "conflict", err)
	equal("event type: read", at(must(api.EventType.Get(all, paid)).Schemas), schemas)
	patch := models.EventTypePatch{Description: pointer("Is paid"), Deprecated: pointer(true)}
	patched := must(api.EventType.Patch(all, paid, patch))
	equal("event type: patched description", patched.Description, "Is paid")
	equal("event type: patched deprecated", patched.Deprecated, true)
	update := models.EventTypeUpdate{Description: "Paid at last"}
	replaced := must(api.EventType.Update(all, paid, update))
	equal("event type: replaced", []string{replaced.Name, replaced.Description}, []string{paid, "Paid at last"})
	equal("event type: no longer deprecated", replaced.Deprecated, false)

	gone := name + ".gone"
	must(api.EventType.Create(all, models.EventTypeIn{Name: gone}, nil))
	done(api.EventType.Delete(all, gone, nil))
	equal("event type: archived now", at(must(api.EventType.Get(all, gone)).Archived), true)
	equal("event types: listed", listed(false), []string{paid})
	equal("event types: with archived ones", listed(true), []string{gone, paid})
	done(api.EventType.Delete(all, gone, &svix.EventTypeDeleteOptions{Expunge: pointer(true)}))
	_, err = api.EventType.Get(all, gone)
	refusedAs("an event type that is expunged", 404, "not_found", err)

	sent := name + ".sent"
	text := `{"openapi":"3.1.0","info":{"title":"t","version":"1"},"webhooks":{"` + sent + `":{"post":{"description":"Sent",
		"requestBody":{"content":{"application/json":{"schema":{"type":"object"}}}}}}}}`
	var spec map[string]any
	done(json.Unmarshal([]byte(text), &spec))
	dry := models.EventTypeImportOpenApiIn{Spec: &spec, DryRun: pointer(true)}
	planned := must(api.EventType.ImportOpenapi(all, dry, nil))
	equal("import: how many would change", len(planned.Data.ToModify), 1)
	equal("import: what would change", planned.Data.ToModify[0].Name, sent)
	_, err = api.EventType.Get(all, sent)
	refused("import: nothing yet", 404, err)
	imported := must(api.EventType.ImportOpenapi(all, models.EventTypeImportOpenApiIn{SpecRaw: &text}, nil))
	equal("import: changed", imported.Data.Modified, []string{sent})
	read := must(api.EventType.Get(all, sent))
	equal("import: description", read.Description, "Sent")
	equal("import: schemas", at(read.Schemas), map[string]any{"1": map[string]any{"type": "object"}})
	return paid
}

// The event types of this tour.
func listed(archived bool) []string {
	names := []string{}
	options := &svix.EventTypeListOptions{Limit: pointer(uint64(250)), IncludeArchived: &archived}
	for {
		page := must(api.EventType.List(all, options))
		equal("event types: a page before the last is not empty", page.Done || len(page.Data) > 0, true)
		for _, one := range page.Data {
			if strings.HasPrefix(one.Name, name+".") {
				names = append(names, one.Name)
			}
		}
		if page.Done {
			return names
		}
		options.Iterator = page.Iterator
	}
}

func endpoints(app, eventType string) string {
	uid, address := name+"-hook", hook.url+"?tour"
	types := []string{eventType}
	wanted := models.EndpointIn{
		Url:          address,
		Uid:          &uid,
		Description:  pointer("Hook"),
		FilterTypes:  types,
		Channels:     []string{"eu"},
		Metadata:     &map[string]string{"team": "a"},
		Headers:      &map[string]string{"x-tour": "one", "Authorization": "secret"},
		ThrottleRate: pointer(uint16(900)),
	}
	made := must(api.Endpoint.Create(all, app, wanted, nil))
	matches("endpoint.id", made.Id, `^ep_[0-9A-Za-z]{27}$`)
	equal("endpoint.url", made.Url, address)
	equal("endpoint.uid", at(made.Uid), uid)
	equal("endpoint.description", made.Description, "Hook")
	equal("endpoint: event types", made.FilterTypes, types)
	equal("endpoint.channels", made.Channels, []string{"eu"})
	equal("endpoint.metadata", made.Metadata, map[string]string{"team": "a"})
	equal("endpoint.throttleRate", at(made.ThrottleRate), uint16(900))
	equal("endpoint.disabled", made.Disabled != nil && !*made.Disabled, true)
	equal("endpoint.version", made.Version, int32(1))
	moment("endpoint.createdAt", made.CreatedAt)
	moment("endpoint.updatedAt", made.UpdatedAt)
	read := must(api.Endpoint.Get(all, app, uid))
	equal("endpoint by uid", []string{read.Id, read.Url, at(read.Uid)}, []string{made.Id, address, uid})
	list := must(api.Endpoint.List(all, app, nil))
	equal("endpoints: done", list.Done, true)
	equal("endpoints: how many", len(list.Data), 1)
	equal("endpoints: listed", list.Data[0].Id, made.Id)

	headers := must(api.Endpoint.GetHeaders(all, app, uid))
	equal("headers", headers.Headers, map[string]string{"x-tour": "one"})
	equal("headers: not shown", headers.Sensitive, []string{"authorization"})
	patch := models.EndpointHeadersPatchIn{
		Headers:       map[string]string{"x-more": "two"},
		DeleteHeaders: []string{"authorization"},
	}
	done(api.Endpoint.PatchHeaders(all, app, uid, patch))
	headers = must(api.Endpoint.GetHeaders(all, app, uid))
	equal("headers: patched", headers.Headers, map[string]string{"x-more": "two", "x-tour": "one"})
	equal("headers: all shown", headers.Sensitive, []string{})
	three := map[string]string{"x-tour": "three"}
	done(api.Endpoint.UpdateHeaders(all, app, uid, models.EndpointHeadersIn{Headers: three}))
	equal("headers: replaced", must(api.Endpoint.GetHeaders(all, app, uid)).Headers, three)

	endpointPatch := models.EndpointPatch{Description: pointer("Patched")}
	endpointPatch.ThrottleRate = utils.NewNullableFromPtr[uint16](nil)
	patched := must(api.Endpoint.Patch(all, app, uid, endpointPatch))
	equal("endpoint: patched", []string{patched.Description, patched.Url}, []string{"Patched", address})
	equal("endpoint: patched types", patched.FilterTypes, types)
	update := models.EndpointUpdate{
		Url:         address,
		Uid:         &uid,
		Description: pointer("Replaced"),
		FilterTypes: types,
		Channels:    []string{"eu"},
		Metadata:    &map[string]string{"team": "b"},
	}
	replaced := must(api.Endpoint.Update(all, app, uid, update))
	equal("endpoint: replaced", []string{replaced.Id, replaced.Description}, []string{made.Id, "Replaced"})
	equal("endpoint: replaced metadata", replaced.Metadata, map[string]string{"team": "b"})
	_, err := api.Endpoint.Get(all, app, "nobody")
	refusedAs("no such endpoint", 404, "not_found", err)
	_, err = api.Endpoint.Create(all, app, models.EndpointIn{Url: "nowhere"}, nil)
	invalid("a URL that is none", []any{"body", "url"}, err)
	unknown := models.EndpointIn{Url: address, FilterTypes: []string{name + ".unknown"}}
	_, err = api.Endpoint.Create(all, app, unknown, nil)
	refused("an event type that does not exist", 422, err)
	return uid
}

func payload() map[string]any {
	return map[string]any{"amount": 1.5, "name": "Zo\u00eb"}
}

func messages(app, endpoint, eventType string) (string, string) {
	secret := must(api.Endpoint.GetSecret(all, app, endpoint)).Key
	matches("secret", secret, `^whsec_[0-9A-Za-z+/]+=*$`)
	wanted := models.MessageIn{
		EventType: eventType,
		EventId:   pointer(name + "-1"),
		Payload:   payload(),
		Channels:  []string{"eu"},
		Tags:      []string{"red", "blue"},
	}
	options := &svix.MessageCreateOptions{IdempotencyKey: pointer(name + "-key"), WithContent: pointer(true)}
	made := must(api.Message.Create(all, app, wanted, options))
	matches("message.id", made.Id, `^msg_[0-9A-Za-z]{27}$`)
	equal("message.eventType", made.EventType, eventType)
	equal("message.eventId", at(made.EventId), name+"-1")
	equal("message.channels", made.Channels, []string{"eu"})
	equal("message.tags", made.Tags, []string{"red", "blue"})
	equal("message.payload", made.Payload, payload())
	moment("message.timestamp", made.Timestamp)
	equal("one key is one message", must(api.Message.Create(all, app, wanted, options)).Id, made.Id)
	other := wanted
	other.Payload = map[string]any{"amount": 2}
	_, err := api.Message.Create(all, app, other, options)
	refusedAs("a key for another body", 409, "conflict", err)
	key := &svix.MessageCreateOptions{IdempotencyKey: pointer(name + "-other")}
	_, err = api.Message.Create(all, app, wanted, key)
	refusedAs("an eventId that is taken", 409, "conflict", err)
	_, err = api.Message.Create(all, app, models.MessageIn{EventType: "a b", Payload: payload()}, nil)
	invalid("no event type", []any{"body", "eventType"}, err)

	one := hook.of(made.Id, 1)[0]
	var body map[string]any
	done(json.Unmarshal(one.body, &body))
	equal("delivery: payload", body, payload())
	equal("delivery: own header", one.header.Get("x-tour"), "three")
	equal("delivery: content type", one.header.Get("content-type"), "application/json")
	equal("delivery: verified", verifies(secret, one, one.body), true)
	equal("delivery: changed", verifies(secret, one, append(one.body, ' ')), false)
	return made.Id, secret
}

func rotation(app, endpoint, eventType, secret string) {
	send := func() delivery {
		wanted := models.MessageIn{EventType: eventType, Payload: payload(), Channels: []string{"eu"}}
		return hook.of(must(api.Message.Create(all, app, wanted, nil)).Id, 1)[0]
	}
	rotate := func(key *string, grace uint32) error {
		wanted := models.EndpointSecretRotateIn{Key: key, GracePeriodSeconds: &grace}
		return api.Endpoint.RotateSecret(all, app, endpoint, wanted, nil)
	}
	done(rotate(nil, 3_600))
	next := must(api.Endpoint.GetSecret(all, app, endpoint)).Key
	equal("rotated: another secret", next != secret, true)
	overlapping := send()
	signatures := strings.Fields(overlapping.header.Get("webhook-signature"))
	equal("overlap: two signatures", len(signatures), 2)
	equal("overlap: the former verifies", verifies(secret, overlapping, overlapping.body), true)
	equal("overlap: the next verifies", verifies(next, overlapping, overlapping.body), true)
	own := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	done(rotate(&own, 0))
	equal("rotated: to our own", must(api.Endpoint.GetSecret(all, app, endpoint)).Key, own)
	after := send()
	equal("no grace: ours verifies", verifies(own, after, after.body), true)
	equal("no grace: the former one does not", verifies(next, after, after.body), false)
	refused("a period that is too long", 422, rotate(nil, 7*24*3_600+1))
}

func tokens(app string) {
	wanted := models.AppPortalAccessIn{Expiry: pointer(uint64(3_600)), SessionId: pointer(name + "-s")}
	access := must(api.Authentication.AppPortalAccess(all, app, wanted, nil))
	matches("portal: url", access.Url, `^http.*#key=`)
	portal := connect(access.Token)
	equal("portal: own application", at(must(portal.Application.Get(all, app)).Uid), app)
	_, err := portal.Application.Get(all, name+"-b")
	refusedAs("portal: another application", 404, "not_found", err)
	_, err = portal.Application.List(all, nil)
	refusedAs("portal: all applications", 403, "insufficient_access", err)
	done(portal.Authentication.Logout(all, nil))
	_, err = portal.Application.Get(all, app)
	refusedAs("logged out", 401, "authentication_failed", err)
	token := must(api.Authentication.AppPortalAccess(all, app, models.AppPortalAccessIn{}, nil)).Token
	another := connect(token)
	equal("another token", at(must(another.Application.Get(all, app)).Uid), app)
	done(api.Authentication.ExpireAll(all, app, models.ApplicationTokenExpireIn{}, nil))
	_, err = another.Application.Get(all, app)
	refusedAs("expired with all others", 401, "authentication_failed", err)
	_, err = connect("nonsense").Application.List(all, nil)
	refusedAs("no token of ours", 401, "authentication_failed", err)
}

func reads(app, eventType, message string) {
	options := &svix.MessageGetOptions{WithContent: pointer(true)}
	read := must(api.Message.Get(all, app, message, options))
	equal("message: read", []string{read.Id, at(read.EventId), read.EventType}, []string{message, name + "-1", eventType})
	equal("message: read payload", read.Payload, payload())
	equal("message: by eventId", must(api.Message.Get(all, app, name+"-1", nil)).Id, message)
	list := must(api.Message.List(all, app, &svix.MessageListOptions{Tag: pointer("red")}))
	equal("messages: by tag, how many", len(list.Data), 1)
	equal("messages: by tag", list.Data[0].Id, message)
}

func attempts(app, endpoint, message string) {
	id := must(api.Endpoint.Get(all, app, endpoint)).Id
	options := &svix.MessageAttemptListByMsgOptions{WithContent: pointer(true)}
	var list *models.ListResponseMessageAttemptOut
	// An attempt is written down a moment after it was made.
	asSoonAs(func() bool {
		list = must(api.MessageAttempt.ListByMsg(all, app, message, options))
		return len(list.Data) > 0
	})
	equal("attempts: how many", len(list.Data), 1)
	attempt := list.Data[0]
	matches("attempt.id", attempt.Id, `^atmpt_`)
	equal("attempt", []string{attempt.MsgId, attempt.EndpointId}, []string{message, id})
	equal("attempt.status", attempt.Status, models.MessageStatus(0))
	equal("attempt.statusText", attempt.StatusText, models.MessageStatusText("success"))
	equal("attempt.responseStatusCode", attempt.ResponseStatusCode, int16(200))
	equal("attempt.response", attempt.Response, "taken")
	equal("attempt.triggerType", attempt.TriggerType, models.MessageAttemptTriggerType(0))
	equal("attempt.url", attempt.Url, hook.url+"?tour")
	moment("attempt.timestamp", attempt.Timestamp)
	equal("attempt: alone", must(api.MessageAttempt.Get(all, app, message, attempt.Id, nil)).Id, attempt.Id)
	found := false
	for _, one := range must(api.MessageAttempt.ListByEndpoint(all, app, endpoint, nil)).Data {
		found = found || one.Id == attempt.Id
	}
	equal("attempts of the endpoint", found, true)
}

func resend(app, endpoint, message string) {
	must(api.MessageAttempt.Resend(all, app, message, endpoint, nil))
	deliveries := hook.of(message, 2)
	equal("resent: the same body", deliveries[1].body, deliveries[0].body)
}

func recoverAll(app, endpoint string) {
	since := models.RecoverIn{Since: time.Now().Add(-time.Hour)}
	task := must(api.Endpoint.Recover(all, app, endpoint, since, nil))
	matches("recover: id", task.Id, `^qtask_`)
	equal("recover: task", task.Task, models.BackgroundTaskType("endpoint.recover"))
	matches("recover: status", string(task.Status), `^(running|finished)$`)
}

func ends(app, endpoint string) {
	done(api.Endpoint.Delete(all, app, endpoint))
	_, err := api.Endpoint.Get(all, app, endpoint)
	refusedAs("a deleted endpoint", 404, "not_found", err)
	for _, uid := range []string{app, name + "-b", name + "-c"} {
		done(api.Application.Delete(all, uid))
	}
	_, err = api.Application.Get(all, app)
	refusedAs("a deleted application", 404, "not_found", err)
}

func main() {
	defer func() {
		if wrong := recover(); wrong != nil {
			fmt.Fprintf(os.Stderr, "svix %s: %v\n", svix.Version, wrong)
			os.Exit(1)
		}
	}()
	app := applications()
	pages(app)
	eventType := eventTypes()
	endpoint := endpoints(app, eventType)
	message, secret := messages(app, endpoint, eventType)
	reads(app, eventType, message)
	attempts(app, endpoint, message)
	resend(app, endpoint, message)
	recoverAll(app, endpoint)
	rotation(app, endpoint, eventType, secret)
	tokens(app)
	ends(app, endpoint)
	fmt.Printf("svix %s: %d checks\n", svix.Version, checks)
}
