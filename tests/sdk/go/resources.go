package main

import (
	"encoding/json"
	"strings"

	svix "github.com/svix/svix-webhooks/go"
	"github.com/svix/svix-webhooks/go/models"
	"github.com/svix/svix-webhooks/go/utils"
)

func applications() *models.ApplicationOut {
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
	equal("application.rateLimit", at(made.RateLimit), uint16(900))
	moment("application.createdAt", made.CreatedAt)
	moment("application.updatedAt", made.UpdatedAt)
	equal("one key is one application", must(api.Application.Create(all, wanted, options)), made)
	_, err := api.Application.Create(all, wanted, nil)
	refusedAs("a uid that is taken", 409, "conflict", err)
	equal("get or create", must(api.Application.GetOrCreate(all, wanted, nil)), made)
	equal("by uid", must(api.Application.Get(all, uid)), made)
	equal("by id", must(api.Application.Get(all, made.Id)), made)

	patch := models.ApplicationPatch{Name: pointer("Patched")}
	patch.ThrottleRate = utils.NewNullableFromPtr[uint16](nil)
	patched := must(api.Application.Patch(all, uid, patch))
	equal("patched: name", patched.Name, "Patched")
	equal("patched: uid", at(patched.Uid), uid)
	equal("patched: metadata", patched.Metadata, map[string]string{"plan": "gold"})
	equal("patched: throttleRate", patched.ThrottleRate == nil, true)
	equal("patched: createdAt", patched.CreatedAt, made.CreatedAt)
	equal("patched: later", patched.UpdatedAt.Before(made.UpdatedAt), false)
	equal("patched: read", must(api.Application.Get(all, uid)), patched)
	wanted = models.ApplicationIn{
		Name:         "Replaced",
		Metadata:     &map[string]string{"plan": "tin"},
		ThrottleRate: pointer(uint16(800)),
	}
	replaced := must(api.Application.Update(all, uid, wanted))
	equal("replaced: name", replaced.Name, "Replaced")
	equal("replaced: metadata", replaced.Metadata, map[string]string{"plan": "tin"})
	equal("replaced: throttleRate", at(replaced.ThrottleRate), uint16(800))
	equal("replaced: id", replaced.Id, made.Id)
	equal("replaced: read", must(api.Application.Get(all, uid)), replaced)
	_, err = api.Application.Get(all, name+"-none")
	refusedAs("no such application", 404, "not_found", err)
	_, err = api.Application.Create(all, models.ApplicationIn{}, nil)
	invalid("a name that is missing", []any{"body", "name"}, err)
	return replaced
}

func pages(first *models.ApplicationOut) {
	made := []models.ApplicationOut{*first}
	for _, letter := range []string{"b", "c"} {
		rate := pointer(uint16(700))
		wanted := models.ApplicationIn{Name: "Tour", Uid: pointer(name + "-" + letter), ThrottleRate: rate}
		made = append(made, *must(api.Application.Create(all, wanted, nil)))
	}
	limit := pointer(uint64(2))
	seen, every := []models.ApplicationOut{}, []*models.ListResponseApplicationOut{}
	var iterator *string
	for {
		options := &svix.ApplicationListOptions{Limit: limit, Iterator: iterator}
		page := must(api.Application.List(all, options))
		equal("list: at most as many as asked for", len(page.Data) <= 2, true)
		equal("list: a page before the last is full", page.Done || len(page.Data) == 2, true)
		every = append(every, page)
		for _, one := range page.Data {
			if strings.HasPrefix(at(one.Uid), name+"-") {
				seen = append(seen, one)
			}
		}
		if page.Done {
			break
		}
		iterator = page.Iterator
		matches("list: iterator", at(iterator), `^app_`)
	}
	equal("list: each once, oldest first", seen, made)
	matches("list: prevIterator", at(every[1].PrevIterator), `^-app_`)
	options := &svix.ApplicationListOptions{Limit: limit, Iterator: every[1].PrevIterator}
	equal("list: back", must(api.Application.List(all, options)).Data, every[0].Data)
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
	equal("event type: featureFlag", at(made.FeatureFlag), "beta")
	equal("event type: archived", made.Archived != nil && !*made.Archived, true)
	equal("event type: deprecated", made.Deprecated, false)
	moment("event type: createdAt", made.CreatedAt)
	moment("event type: updatedAt", made.UpdatedAt)
	_, err := api.EventType.Create(all, wanted, nil)
	refusedAs("an event type that exists", 409, "conflict", err)
	equal("event type: read", must(api.EventType.Get(all, paid)), made)
	patch := models.EventTypePatch{Description: pointer("Is paid"), Deprecated: pointer(true)}
	patched := must(api.EventType.Patch(all, paid, patch))
	equal("event type: patched description", patched.Description, "Is paid")
	equal("event type: patched deprecated", patched.Deprecated, true)
	equal("event type: patched, read", must(api.EventType.Get(all, paid)), patched)
	update := models.EventTypeUpdate{
		Description:  "Paid at last",
		Schemas:      &schemas,
		GroupName:    pointer("orders"),
		FeatureFlags: []string{"beta"},
	}
	replaced := must(api.EventType.Update(all, paid, update))
	equal("event type: replaced", []string{replaced.Name, replaced.Description}, []string{paid, "Paid at last"})
	equal("event type: no longer deprecated", replaced.Deprecated, false)
	equal("event type: replaced, read", must(api.EventType.Get(all, paid)), replaced)

	gone := name + ".gone"
	must(api.EventType.Create(all, models.EventTypeIn{Name: gone}, nil))
	done(api.EventType.Delete(all, gone, nil))
	equal("event type: archived now", at(must(api.EventType.Get(all, gone)).Archived), true)
	equal("event types: listed", listed(false), []models.EventTypeOut{*replaced})
	names := []string{}
	for _, one := range listed(true) {
		names = append(names, one.Name)
	}
	equal("event types: with archived ones", names, []string{gone, paid})
	done(api.EventType.Delete(all, gone, &svix.EventTypeDeleteOptions{Expunge: pointer(true)}))
	_, err = api.EventType.Get(all, gone)
	refusedAs("an event type that is expunged", 404, "not_found", err)
	return paid
}

// The event types of this tour.
func listed(archived bool) []models.EventTypeOut {
	found := []models.EventTypeOut{}
	options := &svix.EventTypeListOptions{
		Limit:           pointer(uint64(250)),
		IncludeArchived: &archived,
		WithContent:     pointer(true),
	}
	for {
		page := must(api.EventType.List(all, options))
		equal("event types: a page is not empty", len(page.Data) > 0, true)
		equal("event types: iterator", at(page.Iterator), page.Data[len(page.Data)-1].Name)
		equal("event types: prevIterator", at(page.PrevIterator), "-"+page.Data[0].Name)
		for _, one := range page.Data {
			if strings.HasPrefix(one.Name, name+".") {
				found = append(found, one)
			}
		}
		if page.Done {
			return found
		}
		options.Iterator = page.Iterator
	}
}

func imports() string {
	sent := name + ".sent"
	schema := `{"type":"object","examples":[{"sent":true}]}`
	text := `{"openapi":"3.1.0","info":{"title":"t","version":"1"},"webhooks":{"` + sent + `":{"post":{"description":"Sent",
		"deprecated":true,"x-svix-group-name":"orders","x-svix-feature-flags":["beta"],
		"requestBody":{"content":{"application/json":{"schema":` + schema + `}}}}}}}`
	var spec map[string]any
	done(json.Unmarshal([]byte(text), &spec))
	dry := models.EventTypeImportOpenApiIn{Spec: &spec, DryRun: pointer(true)}
	planned := must(api.EventType.ImportOpenapi(all, dry, nil)).Data
	equal("import: what would change", planned.Modified, []string{sent})
	equal("import: how many would change", len(planned.ToModify), 1)
	_, err := api.EventType.Get(all, sent)
	refused("import: nothing yet", 404, err)
	imported := must(api.EventType.ImportOpenapi(all, models.EventTypeImportOpenApiIn{SpecRaw: &text}, nil))
	equal("import: changed", imported.Data.Modified, []string{sent})
	read := must(api.EventType.Get(all, sent))
	equal("import: description", read.Description, "Sent")
	equal("import: deprecated", read.Deprecated, true)
	equal("import: group", at(read.GroupName), "orders")
	equal("import: flags", read.FeatureFlags, []string{"beta"})
	var schemas map[string]any
	done(json.Unmarshal([]byte(`{"1":`+schema+`}`), &schemas))
	equal("import: schemas", at(read.Schemas), schemas)
	equal("import: as planned", shown(planned.ToModify[0]), shown(read, "archived", "createdAt", "updatedAt"))
	return sent
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
	equal("endpoint.rateLimit", at(made.RateLimit), uint16(900))
	equal("endpoint.disabled", made.Disabled != nil && !*made.Disabled, true)
	equal("endpoint.version", made.Version, int32(1))
	moment("endpoint.createdAt", made.CreatedAt)
	moment("endpoint.updatedAt", made.UpdatedAt)
	equal("endpoint by uid", must(api.Endpoint.Get(all, app, uid)), made)
	list := must(api.Endpoint.List(all, app, nil))
	equal("endpoints: listed", list.Data, []models.EndpointOut{*made})
	page{list.Done, list.Iterator, list.PrevIterator}.isLast("endpoints", made.Id, made.Id)
	headersOf(app, uid)

	patch := models.EndpointPatch{Description: pointer("Patched")}
	patch.ThrottleRate = utils.NewNullableFromPtr[uint16](nil)
	patched := must(api.Endpoint.Patch(all, app, uid, patch))
	equal("endpoint: patched", []string{patched.Description, patched.Url}, []string{"Patched", address})
	equal("endpoint: patched types", patched.FilterTypes, types)
	equal("endpoint: patched, read", must(api.Endpoint.Get(all, app, uid)), patched)
	update := models.EndpointUpdate{
		Url:          address,
		Uid:          &uid,
		Description:  pointer("Replaced"),
		FilterTypes:  types,
		Channels:     []string{"eu"},
		Metadata:     &map[string]string{"team": "b"},
		ThrottleRate: pointer(uint16(800)),
	}
	replaced := must(api.Endpoint.Update(all, app, uid, update))
	equal("endpoint: replaced", []string{replaced.Id, replaced.Description}, []string{made.Id, "Replaced"})
	equal("endpoint: replaced metadata", replaced.Metadata, map[string]string{"team": "b"})
	equal("endpoint: replaced throttleRate", at(replaced.ThrottleRate), uint16(800))
	equal("endpoint: replaced, read", must(api.Endpoint.Get(all, app, uid)), replaced)
	_, err := api.Endpoint.Get(all, app, "nobody")
	refusedAs("no such endpoint", 404, "not_found", err)
	_, err = api.Endpoint.Create(all, app, models.EndpointIn{Url: "nowhere"}, nil)
	invalid("a URL that is none", []any{"body", "url"}, err)
	unknown := models.EndpointIn{Url: address, FilterTypes: []string{name + ".unknown"}}
	_, err = api.Endpoint.Create(all, app, unknown, nil)
	refused("an event type that does not exist", 422, err)
	return uid
}

func headersOf(app, uid string) {
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
}
