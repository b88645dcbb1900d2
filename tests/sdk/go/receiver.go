package main

import (
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
}

func startReceiver() *receiver {
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		r.lock.Lock()
		r.deliveries = append(r.deliveries, delivery{request.Header, body})
		r.lock.Unlock()
		_, _ = w.Write([]byte("taken"))
	}))
	r.url = server.URL + "/hook"
	return r
}

// The deliveries of a message, as soon as there are so many.
func (r *receiver) of(message string, count int) []delivery {
	var its []delivery
	asSoonAs(func() bool {
		its = []delivery{}
		r.lock.Lock()
		defer r.lock.Unlock()
		for _, one := range r.deliveries {
			if one.header.Get("webhook-id") == message {
				its = append(its, one)
			}
		}
		return len(its) >= count
	})
	if len(its) < count {
		panic(fmt.Errorf("%d deliveries of %s, not %d", len(its), message, count))
	}
	return its
}

// Returns when something is so, or in the end all the same.
func asSoonAs(isSo func() bool) {
	for deadline := time.Now().Add(patience); !isSo() && time.Now().Before(deadline); {
		time.Sleep(poll)
	}
}
