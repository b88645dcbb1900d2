package main

import (
	"time"

	svix "github.com/svix/svix-webhooks/go"
	"github.com/svix/svix-webhooks/go/models"
)

// Operational webhooks: the uid of who is told, and its secret.
func operational() (string, string) {
	endpoints := api.OperationalWebhook.Endpoint
	uid, address := name+"-told", hook.url+"?told"
	types, team := []string{"endpoint.created"}, map[string]string{"team": "a"}
	wanted := models.OperationalWebhookEndpointIn{
		Url:          address,
		Uid:          &uid,
		Description:  pointer("Told"),
		FilterTypes:  types,
		Metadata:     &team,
		ThrottleRate: pointer(uint16(900)),
	}
	made := must(endpoints.Create(all, wanted, nil))
	matches("operational: id", made.Id, `^ep_`)
	equal("operational", []string{made.Url, at(made.Uid), made.Description}, []string{address, uid, "Told"})
	equal("operational: event types", made.FilterTypes, types)
	equal("operational: metadata", made.Metadata, team)
	equal("operational: rates", []uint16{at(made.ThrottleRate), at(made.RateLimit)}, []uint16{900, 900})
	equal("operational: disabled", made.Disabled != nil && !*made.Disabled, true)
	moment("operational: createdAt", made.CreatedAt)
	moment("operational: updatedAt", made.UpdatedAt)
	equal("operational: read", must(endpoints.Get(all, uid)), made)
	limit := &svix.OperationalWebhookEndpointListOptions{Limit: pointer(uint64(250))}
	list := must(endpoints.List(all, limit))
	found := []models.OperationalWebhookEndpointOut{}
	for _, one := range list.Data {
		if one.Id == made.Id {
			found = append(found, one)
		}
	}
	equal("operational: listed", found, []models.OperationalWebhookEndpointOut{*made})
	first, last := list.Data[0].Id, list.Data[len(list.Data)-1].Id
	page{list.Done, list.Iterator, list.PrevIterator}.isLast("operational", first, last)
	update := models.OperationalWebhookEndpointUpdate{
		Url:          address,
		Uid:          &uid,
		Description:  pointer("Replaced"),
		FilterTypes:  types,
		Metadata:     &team,
		ThrottleRate: pointer(uint16(900)),
	}
	replaced := must(endpoints.Update(all, uid, update))
	equal("operational: replaced", []string{replaced.Id, replaced.Description}, []string{made.Id, "Replaced"})
	equal("operational: replaced, read", must(endpoints.Get(all, made.Id)), replaced)
	secret := must(endpoints.GetSecret(all, uid)).Key
	matches("operational: secret", secret, `^whsec_`)
	return uid, secret
}

// Of an application with two endpoints.
func statistics(app, eventType string) {
	appId := must(api.Application.Get(all, app)).Id
	until := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	wanted := models.AppUsageStatsIn{Since: since, Until: until, AppIds: []string{app, name + "-none"}}
	usage := must(api.Statistics.AggregateAppStats(all, wanted, nil))
	equal("usage: unresolved", usage.UnresolvedAppIds, []string{name + "-none"})
	asked := task{Id: usage.Id, Status: usage.Status, Task: usage.Task, UpdatedAt: usage.UpdatedAt}
	// Each message once for each endpoint that it came to, however often.
	stats := map[string]any{"appId": appId, "appUid": app, "messageDestinations": 5.0}
	equal("usage", report("usage", asked, "application.stats"), map[string]any{
		"since":    "2020-01-01T00:00:00.000000Z",
		"until":    "2100-01-01T00:00:00.000000Z",
		"appStats": []any{stats},
	})
	types := must(api.Statistics.AggregateEventTypes(all))
	wants, _ := report("event types", task(*types), "event-type.aggregate")["appEventTypes"].([]any)
	ours := []any{}
	for _, one := range wants {
		if fields, _ := one.(map[string]any); fields["appUid"] == app {
			ours = append(ours, one)
		}
	}
	counts := map[string]any{eventType: 2.0}
	expected := []any{map[string]any{"appId": appId, "appUid": app, "eventTypes": counts}}
	equal("event types that are wanted", ours, expected)
}

// What a report says, which is a task that is finished at once.
func report(what string, asked task, kind string) map[string]any {
	isTask(what, asked, kind)
	equal(what+": status", asked.Status, models.BACKGROUNDTASKSTATUS_FINISHED)
	read := must(api.BackgroundTask.Get(all, asked.Id))
	found := task{Id: read.Id, Status: read.Status, Task: read.Task, UpdatedAt: read.UpdatedAt}
	equal(what+": read", found, asked)
	return read.Data
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
	former := must(api.Authentication.DashboardAccess(all, app, nil))
	matches("dashboard: url", former.Url, `^http.*#key=`)
	equal("dashboard: token", at(must(connect(former.Token).Application.Get(all, app)).Uid), app)
	token := must(api.Authentication.AppPortalAccess(all, app, models.AppPortalAccessIn{}, nil)).Token
	another := connect(token)
	equal("another token", at(must(another.Application.Get(all, app)).Uid), app)
	done(api.Authentication.ExpireAll(all, app, models.ApplicationTokenExpireIn{}, nil))
	_, err = another.Application.Get(all, app)
	refusedAs("expired with all others", 401, "authentication_failed", err)
	_, err = connect("nonsense").Application.List(all, nil)
	refusedAs("no token of ours", 401, "authentication_failed", err)
}

// Contents: of an answer, of a message, of all.
func erases(app, endpoint string, message, failed *models.MessageOut) {
	attempt := attemptsOf(app, failed.Id, 2).Data[0].Id
	done(api.MessageAttempt.ExpungeContent(all, app, failed.Id, attempt))
	answer := must(api.MessageAttempt.Get(all, app, failed.Id, attempt, nil)).Response
	equal("an answer that is erased", answer, "")
	gone := map[string]any{"expired": true}
	done(api.Message.ExpungeContent(all, app, message.Id))
	equal("a message that is erased", read(app, message.Id).Payload, gone)
	_, err := api.MessageAttempt.Resend(all, app, message.Id, endpoint, nil)
	refusedAs("what is erased is not sent again", 400, "missing_payload", err)
	everything := must(api.Message.ExpungeAllContents(all, app, nil))
	isTask("all are erased", task(*everything), "application.purge_content")
	equal("one of all", read(app, failed.Id).Payload, gone)
}

func ends(app, endpoint, told string) {
	done(api.OperationalWebhook.Endpoint.Delete(all, told))
	_, err := api.OperationalWebhook.Endpoint.Get(all, told)
	refusedAs("a deleted operational endpoint", 404, "not_found", err)
	done(api.Endpoint.Delete(all, app, endpoint))
	_, err = api.Endpoint.Get(all, app, endpoint)
	refusedAs("a deleted endpoint", 404, "not_found", err)
	for _, uid := range []string{app, name + "-b", name + "-c"} {
		done(api.Application.Delete(all, uid))
	}
	_, err = api.Application.Get(all, app)
	refusedAs("a deleted application", 404, "not_found", err)
}
