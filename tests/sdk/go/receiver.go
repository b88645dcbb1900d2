package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

const (
	patience = 20 * time.Second
	poll     = 5 * time.Millisecond
	// So long it takes for an answer: an attempt that took no time could not be told from one of which nobody says.
	takes = 10 * time.Millisecond
)

type delivery struct {
	header http.Header
	body   []byte
}

// An endpoint on this machine that keeps what it is sent.
type receiver struct {
	url        string
	lock       sync.Mutex
	deliveries []delivery
	// Whether it answers 500.
	refuses bool
}

func startReceiver() *receiver {
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		r.lock.Lock()
		refuses := r.refuses
		r.deliveries = append(r.deliveries, delivery{request.Header, body})
		r.lock.Unlock()
		time.Sleep(takes)
		if refuses {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("refused"))
			return
		}
		_, _ = w.Write([]byte("taken"))
	}))
	r.url = server.URL + "/hook"
	return r
}

func (r *receiver) refuse(refuses bool) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.refuses = refuses
}

// What was delivered and is so, as soon as there is so much of it.
func (r *receiver) await(isSo func(delivery) bool, count int) []delivery {
	var its []delivery
	asSoonAs(func() bool {
		its = []delivery{}
		r.lock.Lock()
		defer r.lock.Unlock()
		for _, one := range r.deliveries {
			if isSo(one) {
				its = append(its, one)
			}
		}
		return len(its) >= count
	})
	return its
}

// The deliveries of a message, as soon as there are so many.
func (r *receiver) of(message string, count int) []delivery {
	its := r.await(func(one delivery) bool { return one.header.Get("webhook-id") == message }, count)
	if len(its) < count {
		panic(fmt.Errorf("%d deliveries of %s, not %d", len(its), message, count))
	}
	return its
}

// What an operational webhook says.
type told struct {
	Type string
	Data struct {
		AppUid      string
		EndpointId  string
		EndpointUid string
	}
}

// What operational webhooks say of an endpoint, as soon as the first one comes.
func (r *receiver) told(endpointUid string) (delivery, told) {
	parsed := func(one delivery) (says told) {
		_ = json.Unmarshal(one.body, &says)
		return says
	}
	its := r.await(func(one delivery) bool { return parsed(one).Data.EndpointUid == endpointUid }, 1)
	if len(its) == 0 {
		panic(fmt.Errorf("nothing is told of %s", endpointUid))
	}
	return its[0], parsed(its[0])
}

// Returns when something is so, or in the end all the same.
func asSoonAs(isSo func() bool) {
	for deadline := time.Now().Add(patience); !isSo() && time.Now().Before(deadline); {
		time.Sleep(poll)
	}
}
