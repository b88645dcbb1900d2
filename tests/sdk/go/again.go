package main

import (
	"time"

	svix "github.com/svix/svix-webhooks/go"
	"github.com/svix/svix-webhooks/go/models"
)

var since = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// What recover, both replays and others answer.
type task = models.RecoverOut

// What failed, was never sent, or is wanted once more is sent again in bulk, with a second endpoint, which comes late:
// toldSecret is that of who is told so.
func again(app, endpoint, eventType string, message *models.MessageOut, toldSecret string) *models.MessageOut {
	late, types := name+"-late", []string{eventType}
	// It comes to the first endpoint: so it is routed before there is another.
	wanted := models.MessageIn{
		EventType: eventType,
		Payload:   map[string]any{"early": true},
		Channels:  []string{"eu", "late"},
	}
	early := must(api.Message.Create(all, app, wanted, nil))
	hook.of(early.Id, 1)
	second := models.EndpointIn{Url: hook.url + "?late", Uid: &late, FilterTypes: types, Channels: []string{"late"}}
	made := must(api.Endpoint.Create(all, app, second, nil))
	isTold(toldSecret, app, made)
	// One attempt, and it is a dead letter.
	patchPlainly("/api/v1/app/"+app+"/endpoint/"+late, `{"retrySchedule":[]}`)
	secret := must(api.Endpoint.GetSecret(all, app, late)).Key
	failed := fails(app, late, eventType)

	recovering := must(api.Endpoint.Recover(all, app, late, models.RecoverIn{Since: since}, nil))
	isTask("recover", *recovering, "endpoint.recover")
	replaying := must(api.Endpoint.ReplayMissing(all, app, late, models.ReplayIn{Since: since}, nil))
	isTask("replay missing", task(*replaying), "endpoint.replay")
	red := models.BulkReplayIn{Since: since, Tag: pointer("red")}
	bulk := must(api.Endpoint.BulkReplay(all, app, endpoint, red, nil))
	isTask("bulk replay", task(*bulk), "endpoint.bulk-replay")
	for what, one := range map[string]string{"recovered": failed.Id, "replayed": early.Id} {
		deliveries := hook.of(one, 2)
		equal(what+": the same body", deliveries[1].body, deliveries[0].body)
		equal(what+": verified", verifies(secret, deliveries[1], deliveries[1].body), true)
	}
	deliveries := hook.of(message.Id, 3)
	equal("replayed in bulk: the same body", deliveries[2].body, deliveries[0].body)

	appId := must(api.Application.Get(all, app)).Id
	hookId := must(api.Endpoint.Get(all, app, endpoint)).Id
	ended := isOver("recover", *recovering, appId, made.Id)
	isOver("replay missing", task(*replaying), appId, made.Id)
	isOver("bulk replay", task(*bulk), appId, hookId)
	tasks(ended)
	recovered(app, late, failed)
	return failed
}

func isTold(secret, app string, made *models.EndpointOut) {
	one, says := hook.told(at(made.Uid))
	found := []string{says.Type, says.Data.AppUid, says.Data.EndpointId}
	equal("told", found, []string{"endpoint.created", app, made.Id})
	equal("told: verified", verifies(secret, one, one.body), true)
}

// A message that the endpoint refuses, as soon as it is given up.
func fails(app, endpoint, eventType string) *models.MessageOut {
	hook.refuse(true)
	wanted := models.MessageIn{
		EventType: eventType,
		EventId:   pointer(name + "-2"),
		Payload:   map[string]any{"fails": true},
		Channels:  []string{"late"},
		Tags:      []string{"late"},
	}
	made := must(api.Message.Create(all, app, wanted, nil))
	hook.of(made.Id, 1)
	var list *models.ListResponseEndpointMessageOut
	asSoonAs(func() bool {
		list = attempted(app, endpoint)
		if len(list.Data) == 0 {
			return list.Data == nil
		}
		status := list.Data[0].Status
		return status != models.MESSAGESTATUS_PENDING && status != models.MESSAGESTATUS_SENDING
	})
	hook.refuse(false)
	equal("failed: how many", len(list.Data), 1)
	stands("failed", list.Data[0], made, 2, "fail")
	equal("failed: stats", *must(api.Endpoint.GetStats(all, app, endpoint, nil)), models.EndpointStats{Fail: 1})
	return made
}

func isTask(what string, one task, kind string) {
	matches(what+": id", one.Id, `^qtask_`)
	equal(what+": task", one.Task, models.BackgroundTaskType(kind))
	matches(what+": status", string(one.Status), `^(running|finished)$`)
	moment(what+": updatedAt", one.UpdatedAt)
}

// The task as it is when it is over: it sent one message.
func isOver(what string, one task, appId, endpointId string) models.BackgroundTaskOut {
	var ended *models.BackgroundTaskOut
	asSoonAs(func() bool {
		ended = must(api.BackgroundTask.Get(all, one.Id))
		return ended.Status != models.BACKGROUNDTASKSTATUS_RUNNING
	})
	equal(what+": id", ended.Id, one.Id)
	equal(what+": ended", ended.Status, models.BACKGROUNDTASKSTATUS_FINISHED)
	equal(what+": task", ended.Task, one.Task)
	moment(what+": ended at", ended.UpdatedAt)
	data := ended.Data
	equal(what+": where", []any{data["appId"], data["endpointId"]}, []any{appId, endpointId})
	found := []any{data["total"], data["sent"], data["delivered"], data["pending"]}
	equal(what+": how many", found, []any{1.0, 1.0, 1.0, 0.0})
	return *ended
}

// The one that ended is on the list, as it is.
func tasks(ended models.BackgroundTaskOut) {
	kind := models.BACKGROUNDTASKTYPE_ENDPOINT_RECOVER
	options := &svix.BackgroundTaskListOptions{Task: &kind, Limit: pointer(uint64(250))}
	list := must(api.BackgroundTask.List(all, options))
	found := []models.BackgroundTaskOut{}
	for _, one := range list.Data {
		if one.Id == ended.Id {
			found = append(found, one)
		}
	}
	equal("tasks: listed", found, []models.BackgroundTaskOut{ended})
	first, last := list.Data[0].Id, list.Data[len(list.Data)-1].Id
	page{list.Done, list.Iterator, list.PrevIterator}.isLast("tasks", first, last)
}

func recovered(app, endpoint string, failed *models.MessageOut) {
	list := attemptsOf(app, failed.Id, 2)
	found := []any{}
	for _, one := range list.Data {
		found = append(found, int64(one.Status), one.ResponseStatusCode, one.Response, int64(one.TriggerType))
	}
	// By hand, and before that as scheduled.
	expected := []any{int64(0), int16(200), "taken", int64(1), int64(2), int16(500), "refused", int64(0)}
	equal("recovered: attempts", found, expected)
	stats := must(api.Endpoint.GetStats(all, app, endpoint, nil))
	equal("recovered: stats", *stats, models.EndpointStats{Success: 2})
}
