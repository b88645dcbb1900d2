package main

import (
	"encoding/json"
	"strings"
	"time"

	svix "github.com/svix/svix-webhooks/go"
	"github.com/svix/svix-webhooks/go/models"
)

func payload() map[string]any {
	return map[string]any{"amount": 1.5, "name": "Zo\u00eb"}
}

func parsed(body []byte) map[string]any {
	var fields map[string]any
	done(json.Unmarshal(body, &fields))
	return fields
}

func messages(app, endpoint, eventType string) (*models.MessageOut, string) {
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
	equal("delivery: payload", parsed(one.body), payload())
	equal("delivery: own header", one.header.Get("x-tour"), "three")
	equal("delivery: content type", one.header.Get("content-type"), "application/json")
	equal("delivery: verified", verifies(secret, one, one.body), true)
	equal("delivery: changed", verifies(secret, one, append(one.body, ' ')), false)
	return made, secret
}

// A message as it is read, with its payload.
func read(app, message string) *models.MessageOut {
	return must(api.Message.Get(all, app, message, &svix.MessageGetOptions{WithContent: pointer(true)}))
}

func reads(app string, message *models.MessageOut) {
	equal("message: read", read(app, message.Id), message)
	equal("message: by eventId", read(app, name+"-1"), message)
	options := &svix.MessageListOptions{Tag: pointer("red"), WithContent: pointer(true)}
	list := must(api.Message.List(all, app, options))
	equal("messages: by tag", list.Data, []models.MessageOut{*message})
	page{list.Done, list.Iterator, list.PrevIterator}.isLast("messages", message.Id, message.Id)
}

// Of a message, as soon as there are so many: one is written down a moment after it was made.
func attemptsOf(app, message string, count int) *models.ListResponseMessageAttemptOut {
	options := &svix.MessageAttemptListByMsgOptions{WithContent: pointer(true)}
	var list *models.ListResponseMessageAttemptOut
	asSoonAs(func() bool {
		list = must(api.MessageAttempt.ListByMsg(all, app, message, options))
		return list.Data == nil || len(list.Data) >= count
	})
	equal("attempts: how many", len(list.Data), count)
	return list
}

func attempts(app, endpoint string, message *models.MessageOut) {
	described := must(api.Endpoint.Get(all, app, endpoint))
	list := attemptsOf(app, message.Id, 1)
	attempt := list.Data[0]
	matches("attempt.id", attempt.Id, `^atmpt_`)
	equal("attempt", []string{attempt.MsgId, attempt.EndpointId}, []string{message.Id, described.Id})
	equal("attempt.status", attempt.Status, models.MessageStatus(0))
	equal("attempt.statusText", attempt.StatusText, models.MessageStatusText("success"))
	equal("attempt.responseStatusCode", attempt.ResponseStatusCode, int16(200))
	between("attempt.responseDurationMs", attempt.ResponseDurationMs, takes.Milliseconds()/2, 20_000)
	equal("attempt.response", attempt.Response, "taken")
	equal("attempt.triggerType", attempt.TriggerType, models.MessageAttemptTriggerType(0))
	equal("attempt.url", attempt.Url, hook.url+"?tour")
	moment("attempt.timestamp", attempt.Timestamp)
	page{list.Done, list.Iterator, list.PrevIterator}.isLast("attempts", attempt.Id, attempt.Id)
	equal("attempt: alone", *must(api.MessageAttempt.Get(all, app, message.Id, attempt.Id, nil)), attempt)

	options := &svix.MessageAttemptListByEndpointOptions{WithContent: pointer(true), WithMsg: pointer(true)}
	of := must(api.MessageAttempt.ListByEndpoint(all, app, endpoint, options))
	withMessage := attempt
	bare := &svix.MessageGetOptions{WithContent: pointer(false)}
	withMessage.Msg = must(api.Message.Get(all, app, message.Id, bare))
	equal("attempts of the endpoint", of.Data, []models.MessageAttemptOut{withMessage})
	page{of.Done, of.Iterator, of.PrevIterator}.isLast("attempts of the endpoint", attempt.Id, attempt.Id)

	what := "messages of the endpoint"
	messages := attempted(app, endpoint)
	equal(what+": how many", len(messages.Data), 1)
	stands(what, messages.Data[0], message, 0, "success")
	page{messages.Done, messages.Iterator, messages.PrevIterator}.isLastOf(what, "msgep_")

	what = "endpoints of the message"
	destinations := must(api.MessageAttempt.ListAttemptedDestinations(all, app, message.Id, nil))
	equal(what+": how many", len(destinations.Data), 1)
	one := destinations.Data[0]
	standing := []string{"status", "statusText", "nextAttempt"}
	equal(what, shown(one, standing...), shown(described, "metadata"))
	equal(what+": status", one.Status, models.MessageStatus(0))
	equal(what+": statusText", one.StatusText, models.MessageStatusText("success"))
	equal(what+": nextAttempt", one.NextAttempt, (*time.Time)(nil))
	page{destinations.Done, destinations.Iterator, destinations.PrevIterator}.isLastOf(what, "msgep_")
}

// The messages of an endpoint, and how each stands there.
func attempted(app, endpoint string) *models.ListResponseEndpointMessageOut {
	options := &svix.MessageAttemptListAttemptedMessagesOptions{WithContent: pointer(true)}
	return must(api.MessageAttempt.ListAttemptedMessages(all, app, endpoint, options))
}

func stands(what string, found models.EndpointMessageOut, message *models.MessageOut, status int64, word string) {
	equal(what, shown(found, "status", "statusText", "nextAttempt"), shown(message))
	equal(what+": status", found.Status, models.MessageStatus(status))
	equal(what+": statusText", found.StatusText, models.MessageStatusText(word))
	equal(what+": nextAttempt", found.NextAttempt, (*time.Time)(nil))
}

func resend(app, endpoint string, message *models.MessageOut) {
	must(api.MessageAttempt.Resend(all, app, message.Id, endpoint, nil))
	deliveries := hook.of(message.Id, 2)
	equal("resent: the same body", deliveries[1].body, deliveries[0].body)
}

func example(app, endpoint, eventType, secret string) {
	sent := map[string]any{"sent": true}
	made := must(api.Endpoint.SendExample(all, app, endpoint, models.EventExampleIn{EventType: eventType}, nil))
	matches("example.id", made.Id, `^msg_`)
	equal("example.eventType", made.EventType, eventType)
	equal("example.payload", made.Payload, sent)
	moment("example.timestamp", made.Timestamp)
	one := hook.of(made.Id, 1)[0]
	equal("example: delivered", parsed(one.body), sent)
	equal("example: verified", verifies(secret, one, one.body), true)
	equal("example: read", read(app, made.Id), made)
}

func precheck(app, eventType string) {
	active := func(channel string) bool {
		wanted := models.MessagePrecheckIn{EventType: eventType, Channels: []string{channel}}
		return must(api.Message.Precheck(all, app, wanted, nil)).Active
	}
	equal("precheck", []bool{active("eu"), active("nowhere")}, []bool{true, false})
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
